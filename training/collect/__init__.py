"""`collect`: the feedback topic and files of judgements into Parquet, each event once."""

"""`annotate`: labels by a machine: a language model's grades, or pairs of the corpus itself."""

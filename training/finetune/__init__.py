"""From labelled lists to a better cross-encoder."""

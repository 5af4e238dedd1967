"""`label`: events into labelled pairs, corrected for position, checked for agreement, reported."""

"""Load generators and comparisons. May import anything."""

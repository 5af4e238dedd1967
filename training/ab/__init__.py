"""`ab-report`: which of two models that are compared online is better, at any time one looks."""

"""Guesses of coming tokens, which the model checks in one pass: a reply gets faster and keeps its words."""

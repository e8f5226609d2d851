"""Words and numbers as people read them, and outside text made inert."""

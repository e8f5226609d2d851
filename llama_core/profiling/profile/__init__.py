"""Where time and memory of a reply go."""

"""The model in NumPy, float32 throughout."""

"""What computes: NumPy to be read, compiled kernels to be fast."""

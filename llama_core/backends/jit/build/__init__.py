"""Kernels and control code into machine code for this processor, and the cache of it."""

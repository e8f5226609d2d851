"""The GGML block formats: a table of types and one dequantiser each.

`dequantize(raw, fmt, out=None)` turns rows of blocks into float32.
"""

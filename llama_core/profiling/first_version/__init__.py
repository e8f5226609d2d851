"""A first version of a Llama in NumPy, with its habits: what experiments and profiles start from."""

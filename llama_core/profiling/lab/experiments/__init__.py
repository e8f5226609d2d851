"""The experiments, one file each; `registry.py` lists them."""

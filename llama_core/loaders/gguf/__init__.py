"""GGUF files: header, metadata, split files, writing."""

"""Tokenizers in GGUF metadata: read and written."""

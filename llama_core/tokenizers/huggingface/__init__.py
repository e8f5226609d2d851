"""Tokenizers in Hugging Face folders."""

"""Rates of prompts and replies, beside the ceiling and beside llama.cpp."""

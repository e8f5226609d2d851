"""Engines elsewhere: servers that speak OpenAI's API, for chats and for batches."""

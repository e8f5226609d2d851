"""Chats, prompts and drafts in one SQLite file: written durably, searched, exported. Knows no screen."""

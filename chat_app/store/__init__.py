"""Chats, prompts and drafts on disk: durable, mended when damaged, searched, exported. Knows no screen."""

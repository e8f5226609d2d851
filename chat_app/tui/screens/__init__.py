"""The chat, and the dialogs over it."""

"""The app on the screen (Textual)."""

"""The app's dealings with its terminal: what comes from it, and what is asked of it."""

"""What a user can set, and where everything is on disk."""

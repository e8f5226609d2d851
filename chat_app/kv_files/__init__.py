"""Keys and values on disk, so that a chat that is opened again is not read again."""

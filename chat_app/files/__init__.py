"""Ordinary files that others read: written so that a crash cannot spoil them, by one process at a time."""

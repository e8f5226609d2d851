"""Replies that grow beside each other until one of them is kept."""

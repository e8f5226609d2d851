"""Chats from elsewhere: what version 0.1 kept, other databases, and the files of other programs."""

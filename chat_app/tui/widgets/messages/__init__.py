"""The messages of a chat as they are drawn: the list, one message, and its parts."""

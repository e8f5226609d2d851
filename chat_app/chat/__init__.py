"""What happens in a chat: sending, stopping, branching, saving. Knows no widget."""

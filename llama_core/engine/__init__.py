"""From token ids to a stream of typed events."""

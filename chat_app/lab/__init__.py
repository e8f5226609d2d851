"""The laboratory's own command: runs, tables, and what the screen costs."""

"""Getting models: through the user's own pip or from a hub, verified before anything is visible."""

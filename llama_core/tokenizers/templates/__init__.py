"""Chat templates: Jinja in a worker process with limits."""

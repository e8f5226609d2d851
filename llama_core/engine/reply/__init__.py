"""One reply, token by token: what is drawn, what it says, and the events that tell of it."""

"""Files that go to the model with a prompt: found, read as text, kept beside the message."""

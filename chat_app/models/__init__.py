"""The models that are known by name, those on this machine, and how they come here."""

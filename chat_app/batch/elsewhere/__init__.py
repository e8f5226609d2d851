"""Batches beyond this machine: servers that share the work, and a Ray cluster."""

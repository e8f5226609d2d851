"""Answering files of requests: lines in, results out, resumed where it was interrupted."""

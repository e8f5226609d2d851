"""The command line's commands, one module each, imported when the command runs; and what they alone use."""

"""The ceilings: what memory and arithmetic of this machine allow."""

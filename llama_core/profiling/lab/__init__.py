"""The experiments behind the claims about speed."""

"""From logits to a token, and the record of how."""

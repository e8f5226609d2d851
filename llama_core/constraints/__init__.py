"""What a reply may say next: masks over the vocabulary, token by token."""

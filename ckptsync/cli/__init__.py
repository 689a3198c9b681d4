"""What a person types: the command line, and all that knows click and rich."""

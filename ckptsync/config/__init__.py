"""The configuration file: reading, checking and explaining it. Its objects stop at the CLI."""

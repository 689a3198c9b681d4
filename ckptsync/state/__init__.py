"""What this node remembers between runs, in one SQLite database for each pipeline and bucket."""

"""What a machine calls: the daemon's interface over HTTP, and the client that commands use."""

"""The bench: ckptsync and its peers in turn, as whole processes, on one server."""

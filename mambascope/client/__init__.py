"""A service from Python: the protocol, written once, and the clients that block or await."""

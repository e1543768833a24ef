"""One adapter per token-mixer family: from a mixer module to its hidden attention."""

"""Scripts that made the bundled models; each can be run again."""

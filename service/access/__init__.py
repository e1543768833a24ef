"""Who may call, how often, and which jobs they may see."""

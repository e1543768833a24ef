"""How long a job will take: what it does, what that cost so far, and what is left of it."""

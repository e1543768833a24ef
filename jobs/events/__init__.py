"""What happens to jobs, for whoever watches."""

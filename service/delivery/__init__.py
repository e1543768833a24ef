"""Stored bytes as answers: whole, in part, or all of a job's as one archive."""

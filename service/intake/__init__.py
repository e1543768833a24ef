"""A submitted body becomes a job: read, judged, accepted."""

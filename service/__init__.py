"""The HTTP front end: it validates, enqueues and answers. It never computes."""

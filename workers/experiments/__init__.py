"""Experiments on a loaded model: what it says when something inside it is changed."""

"""The compute side: a supervisor that never imports torch, and a runner that holds the models."""

"""The routes: one module per subject, each with a `router` that `service.app` includes."""

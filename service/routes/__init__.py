"""The routes, one module per subject. Each adds its own to the application."""

"""Real services for development and tests: each started on loopback, awaited, and stopped by its process id."""

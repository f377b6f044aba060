"""The HTTP edge: routes, authentication, and how errors become answers."""

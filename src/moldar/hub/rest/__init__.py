"""The REST interface `/api/v1`: what the pages can do, as JSON."""

"""Our registry and hub, an ASGI application."""

"""Talking to registries: the wire format, the client, credentials."""

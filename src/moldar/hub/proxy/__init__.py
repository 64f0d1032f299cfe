"""Copies of other registries' content, fetched when somebody asks for it."""

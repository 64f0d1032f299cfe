"""Advice on a Dockerfile from what was measured: facts in, advice and rewritten text out."""

"""Webhooks: which there are, whereto they may point, and the sending."""

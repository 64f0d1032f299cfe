"""What repositories hold: no HTTP, and nobody who asks."""

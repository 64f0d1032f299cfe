"""What is in an image's layers, for people to look at."""

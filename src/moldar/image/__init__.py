"""The nouns of images: references, documents, layers, compression, and copying between places."""

"""Where images go: store, archives, directories, registries; and a layer's two forms."""

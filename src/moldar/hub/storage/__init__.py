"""Where the bytes of blobs lie."""

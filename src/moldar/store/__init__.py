"""What is kept on disk: immutable blobs, mutable records, and the collection of garbage."""

"""Pure text: from the bytes of a Dockerfile to instructions, and the rules of .dockerignore."""

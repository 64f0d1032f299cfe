"""What is allowed in a Dockerfile and yet questionable: BuildKit's lint rules, by their names."""

"""From instructions to an image: plan, graph, cache, solver and the operations."""

"""Read sets: what a step looked at in the layers that were copied, and whether that is still so in others."""

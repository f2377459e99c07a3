"""A run directory: how it is written, and the one way to read it."""

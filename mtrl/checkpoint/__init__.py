"""Checkpoints from which a run continues exactly, and saved models."""

"""Where models that version 0.1.0 saved look for their policies."""

from mtrl.algo.policies import StackedSACPolicy, StackedTD3Policy

__all__ = ["StackedSACPolicy", "StackedTD3Policy"]

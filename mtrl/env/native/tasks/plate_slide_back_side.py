"""plate-slide-back-side-v3: slide a plate sideways out of a cabinet, rewarded as sliding it in."""

from mtrl.env.native.tasks.plate_slide_side import observe, places, reward

__all__ = ["observe", "places", "reward"]

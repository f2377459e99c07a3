"""plate-slide-back-v3: slide a plate back out of a cabinet, rewarded as sliding it sideways."""

from mtrl.env.native.tasks.plate_slide_side import observe, places, reward

__all__ = ["observe", "places", "reward"]

"""coffee-pull-v3: pull a mug from under the coffee machine, with the reward of coffee-push-v3."""

from mtrl.env.native.tasks.coffee_push import observe, places, reward

__all__ = ["observe", "places", "reward"]

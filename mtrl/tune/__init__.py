"""Search for the values of a recipe that learn best: ``python -m mtrl.tune``."""

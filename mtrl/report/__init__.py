"""``python -m mtrl.report DIR...``: what a set of runs shows, as one page, with tables and figures beside it.

``study`` sorts runs into comparisons and groups, ``analysis`` computes, ``tables`` and ``figures`` show what was
computed, ``page`` orders and writes them. Nothing here imports torch or MuJoCo.
"""

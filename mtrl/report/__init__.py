"""``python -m mtrl.report DIR...``: what a set of runs shows, as one page, with tables and figures beside it.

``study`` sorts runs into comparisons and groups, ``analysis`` computes, ``contents`` and ``figures`` give
tables and drawings, ``chapters`` orders them, ``page`` writes. Nothing here imports torch or MuJoCo.
"""

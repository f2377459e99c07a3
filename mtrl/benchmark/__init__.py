"""Measurements of speed, each a subcommand of ``python -m mtrl.benchmark``.

What is compared is measured in turns in one process (``pairing``): the speed of a machine that others use too
changes by more than what is measured.
"""

"""What a set of runs shows, on one page: sorted (``study``), computed (``analysis``), shown. Imports no torch."""

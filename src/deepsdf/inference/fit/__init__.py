"""Fits: the code that explains observed signed distances."""

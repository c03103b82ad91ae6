"""Scans: partial surfaces in files, and virtual depth cameras that take them."""

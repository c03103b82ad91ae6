"""Geometry without learning: meshes, signed distances, level sets and scans. NumPy and Warp, no torch."""

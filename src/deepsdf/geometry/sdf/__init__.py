"""Outer surface to field to samples: signed distances of meshes, and where to sample them."""

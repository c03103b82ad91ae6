"""Shapes by name: their files, true meshes, codes and quality records."""

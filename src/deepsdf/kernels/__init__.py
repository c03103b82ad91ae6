"""Warp kernels and their launch; the only package that imports Warp."""

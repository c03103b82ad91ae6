"""Signed-distance samples of many shapes, in memory or mapped, and balanced draws from them."""

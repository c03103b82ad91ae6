"""Edits: the nearest code that satisfies constraints."""

"""Completion: code, pose and scale of a whole shape from a partial scan."""

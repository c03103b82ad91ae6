"""A trained shape space, and what it is used for."""

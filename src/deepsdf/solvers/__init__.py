"""Optimisers that are independent of the decoder."""

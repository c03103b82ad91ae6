"""Metrics of two surfaces, and of sets of generated shapes."""

"""Training a shape space: the loop, checkpoints, faults and distributed ranks."""

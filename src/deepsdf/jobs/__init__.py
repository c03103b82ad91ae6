"""Work on many shapes, in processes or threads."""

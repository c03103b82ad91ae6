"""The learned part: decoder, codes, priors and objective. Knows no meshes and no files."""

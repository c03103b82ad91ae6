"""What the viewer shows: catalogue, codes, uploads and exports."""

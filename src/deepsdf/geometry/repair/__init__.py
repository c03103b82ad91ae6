"""Dirty mesh to outer surface: winding, cracks, holes, cavities and buried faces."""

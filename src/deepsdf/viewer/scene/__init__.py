"""The viewer's 3D scene: layers, redrawing and the pad."""

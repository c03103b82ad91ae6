"""Pictures and films of meshes and point clouds, without OpenGL or a display."""

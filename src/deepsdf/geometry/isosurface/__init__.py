"""Field to mesh: the zero level set of any field."""

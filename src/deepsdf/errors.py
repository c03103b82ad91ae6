"""The errors deepsdf raises on purpose. Each message says what was wrong, where, and what to do."""


class DeepSDFError(Exception):
    """Base of every error raised on purpose."""


class InputError(DeepSDFError, ValueError):
    """What the user gave cannot be used: a file, a setting, a mesh, a name."""


class MeshError(InputError):
    """One mesh cannot be used (no faces, NaN vertices, zero extent, no inside)."""


class NoFacesError(MeshError):
    """A mesh file has no faces; it may hold points."""


class TrainingError(DeepSDFError):
    """The training went wrong: a loss or weights that are not finite. The last checkpoint is as it was."""


class NoSurfaceError(DeepSDFError, ValueError):
    """A field has the same sign everywhere, so it has no surface. The message gives its range."""

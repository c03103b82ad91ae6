"""Exceptions of deepsdf. Messages say what failed, what was expected, and what to do."""


class DeepSDFError(Exception):
    """Base class of all exceptions of deepsdf."""


class InputError(DeepSDFError, ValueError):
    """Unusable input: a file, a setting, a mesh or a name."""


class MeshError(InputError):
    """Unusable mesh: no faces, NaN vertices, zero extent, or no interior."""


class NoFacesError(MeshError):
    """A mesh file without faces; it may contain a point cloud."""


class TrainingError(DeepSDFError):
    """Failed training: a loss or weights that are not finite. The last checkpoint is unchanged."""


class NoSurfaceError(DeepSDFError, ValueError):
    """A field without a zero level set: it has the same sign everywhere. The message contains its range."""

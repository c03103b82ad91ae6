"""Files dropped into the page: safe reading, and their latent codes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepsdf.errors import InputError
from deepsdf.inference.encode import CodeEstimator, EncodeOptions, Encoding, encodable_suffixes, encode
from deepsdf.progress import OnProgress
from deepsdf.viewer.html import grouped

MAX_BYTES = 200 * 2**20
"""Largest file that is read: a binary .stl of four million triangles."""


def upload_suffixes() -> tuple[str, ...]:
    """Suffixes of the files that can be uploaded: those that do not need a second file."""
    return encodable_suffixes(complete=True)


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded shape.

    Attributes:
        label: the file's name without its suffix.
    """

    label: str
    encoding: Encoding

    @property
    def scan_points(self) -> np.ndarray | None:
        """Points (n, 3) of the scan, unit frame; None if the file is not a scan."""
        found = self.encoding.completion
        return None if found is None else found.scan.moved(found.to_unit).points

    @property
    def summary(self) -> str:
        """How the code was obtained, how well it fits, and warnings."""
        fit, completion, samples = self.encoding.fit, self.encoding.completion, self.encoding.samples
        text = "code read from the file"
        if completion is not None:
            text = (
                f"completed; {completion.explained:.0%} of the scan explained, "
                f"{completion.unlikeliness:.1f} std from the mean"
            )
        elif fit is not None and samples is not None:
            text = f"fitted to {grouped(len(samples))} samples; mean error {float(fit.losses[0]):.4f}"
        return "; ".join((text, *self.encoding.warnings))


def encode_upload(
    space: CodeEstimator,
    name: str,
    content: bytes,
    options: EncodeOptions = EncodeOptions(),
    *,
    on_progress: OnProgress | None = None,
) -> Upload:
    """The code of a file that came from a browser; see `encode`.

    Args:
        name: the file's name in the browser. Only its suffix and, as a label, its stem are used.
    Raises:
        InputError: the file is too large, of an unknown kind, or broken.
    """
    label, suffix = Path(name.replace("\\", "/")).stem[:60] or "upload", Path(name).suffix.lower()
    if suffix not in upload_suffixes():
        raise InputError(f"{name[:80]!r} has no known file type; use one of {', '.join(upload_suffixes())}")
    if not content or len(content) > MAX_BYTES:
        raise InputError(f"{name[:80]!r} has {len(content)} bytes; expected 1 to {MAX_BYTES}")
    with tempfile.TemporaryDirectory(prefix="deepsdf-view-") as folder:
        path = Path(folder) / f"upload{suffix}"  # never the visitor's name, which could contain a path
        path.write_bytes(content)
        try:
            return Upload(label, encode(space, path, options, on_progress=on_progress))
        except InputError as error:
            # Name the visitor's file, not the temporary copy.
            message = str(error).replace(str(path), f"{label}{suffix}").replace(folder, "its folder")
            raise type(error)(message) from None

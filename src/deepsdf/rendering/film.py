"""Films: .gif and, with ffmpeg, .mp4."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepsdf.errors import InputError
from deepsdf.files import atomic_path

FILM_SUFFIXES = (".gif", ".mp4")


def check_film(path: str | os.PathLike[str]) -> None:
    """Check that `save_film` can write a film, before frames are drawn.

    Raises:
        InputError: another suffix, or .mp4 where ffmpeg is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise InputError(f"{path}: unknown film format; expected {' or '.join(FILM_SUFFIXES)}")
    if suffix == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise InputError(f'{path}: .mp4 needs ffmpeg; run pip install "deepsdf[video]", or save a .gif')


def save_film(path: str | os.PathLike[str], frames: Iterable[np.ndarray], *, fps: float = 20.0) -> None:
    """Write frames (h, w, 3) uint8 of equal size as a looping .gif or an .mp4 (H.264). Never leaves a partial file.

    Frames of a .gif last a multiple of 10 ms, at least 20 ms. An .mp4 repeats the last row or column of an odd side.

    Raises:
        InputError: see `check_film`; also no frames, frames of different sizes, or a frame rate outside (0, 100].
    """
    check_film(path)
    if not 0 < fps <= 100:
        raise InputError(f"fps is {fps}; expected a frame rate above 0 and at most 100")
    checked = _checked(path, frames)
    first = next(checked)
    with atomic_path(path) as temporary:
        save = _save_gif if temporary.suffix.lower() == ".gif" else _save_mp4
        save(temporary, chain([first], checked), fps)


def _checked(path: str | os.PathLike[str], frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, checked: at least one, all of the same size and type."""
    shape = None
    for frame in frames:
        shape = shape or frame.shape
        if frame.shape != shape or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InputError(f"{path}: a frame is {frame.shape} {frame.dtype}; expected {(*shape[:2], 3)} uint8")
        yield frame
    if shape is None:
        raise InputError(f"{path}: a film needs at least one frame")


def _save_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write with one palette for all frames, so that parts that do not move do not flicker (imageio writes one each).

    There is no dithering: its grain would change from frame to frame and compress badly.
    """
    shots = list(frames)
    count = np.zeros(1 << 24, np.int32)
    for shot in shots:
        present, times = np.unique(_packed(shot), return_counts=True)
        count[present] += times.astype(np.int32)
    present = np.flatnonzero(count)
    colours = np.stack([present >> 16, present >> 8 & 255, present & 255], axis=-1).astype(np.uint8)
    few = len(colours) <= 256
    palette, nearest = (colours, np.arange(len(colours))) if few else _palette(colours, count[present])
    index_of = np.zeros(1 << 24, np.uint8)
    index_of[present] = nearest
    pictures = [Image.fromarray(index_of[_packed(shot)]) for shot in shots]
    for picture in pictures:
        picture.putpalette(palette.tobytes())
    pictures[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=max(20, round(100 / fps) * 10),  # browsers replace shorter durations by 100 ms
        loop=0,
        optimize=False,
    )


def _palette(colours: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A palette (256, 3) for colours (n, 3) that occur `count` (n,) times, and the nearest entry of each colour (n,).

    The most frequent colour, normally the background, is kept exactly; the others are means (Lloyd's algorithm, 6
    iterations from Pillow's median cut).
    """
    from scipy.spatial import KDTree

    weight = count**0.75  # gives rare colours more weight, so that small bright objects keep their colour
    weight[count.argmax()] = 0
    often = np.ceil(weight * (200_000 / weight.sum())).astype(int)
    start = Image.fromarray(np.repeat(colours, often, axis=0)[None]).quantize(255, Image.Quantize.MEDIANCUT)
    palette = np.array(start.getpalette(), float).reshape(-1, 3)[:255]
    for _ in range(6):
        owner = KDTree(palette).query(colours)[1]
        total = np.bincount(owner, weight, len(palette))
        means = [np.bincount(owner, weight * channel, len(palette)) / np.maximum(total, 1e-9) for channel in colours.T]
        palette = np.where(total[:, None] > 0, np.stack(means, axis=-1), palette)
    palette = np.vstack([np.round(palette).astype(np.uint8), colours[count.argmax()]])
    return palette, np.asarray(KDTree(palette).query(colours)[1])


def _packed(frame: np.ndarray) -> np.ndarray:
    """Colours (.., 3) uint8 as integers (..) below 2^24."""
    red, green, blue = (frame[..., k].astype(np.int32) for k in range(3))
    return red << 16 | green << 8 | blue


def _save_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    from imageio import v2 as imageio

    # Players guess the colour space of untagged files: tag it, and convert to it.
    colours = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    convert = ["-vf", "scale=out_color_matrix=bt709:out_range=tv"]
    quality = ["-crf", "16", "-movflags", "+faststart"]
    writer: Any = imageio.get_writer(
        path,
        format="FFMPEG",  # pyright: ignore[reportArgumentType]
        fps=fps,
        codec="libx264",
        quality=None,
        pixelformat="yuv420p",
        macro_block_size=2,
        output_params=[*convert, *quality, *colours],
    )
    try:
        for frame in frames:
            even = [(0, side % 2) for side in frame.shape[:2]]
            writer.append_data(np.pad(frame, [*even, (0, 0)], mode="edge"))
    finally:
        writer.close()  # its context manager does not close it on an error, and ffmpeg would keep running

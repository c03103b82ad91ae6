"""Pictures that move: .gif by Pillow, .mp4 by ffmpeg."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from deepsdf.errors import InputError
from deepsdf.files import atomic_path

FILM_SUFFIXES = (".gif", ".mp4")


def check_film(path: str | os.PathLike[str]) -> None:
    """Whether `save_film` can write there, to know before frames are drawn.

    Raises:
        InputError: another suffix, or .mp4 where there is no ffmpeg.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise InputError(f"{path}: films are saved as {' or '.join(FILM_SUFFIXES)}; end the name in one of these")
    if suffix == ".mp4":
        _ffmpeg()


def save_film(path: str | os.PathLike[str], frames: Iterable[np.ndarray], *, fps: float = 20.0) -> None:
    """Write frames (h, w, 3) uint8, all of one size, as .gif (for ever) or .mp4 (H.264), whole or not at all.

    A .gif's frames last a multiple of 10 ms. An .mp4 with an odd side gets one white line more.

    Raises:
        InputError: as `check_film`; no frames, or frames of different sizes.
    """
    check_film(path)
    if not 0 < fps <= 100:
        raise InputError(f"fps={fps} is no frame rate; give one above 0, at most 100")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InputError(f"{path}: a film needs at least one frame")
    checked = (_like(frame, first) for frame in chain([first], iterator))
    with atomic_path(path) as temporary:
        if temporary.suffix.lower() == ".gif":
            _save_gif(temporary, list(checked), fps)
        else:
            _save_mp4(temporary, checked, first.shape, fps)


def _like(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    if frame.shape != first.shape or frame.dtype != np.uint8 or frame.ndim != 3:
        raise InputError(f"frames are (h, w, 3) uint8 of one size, not {frame.shape} {frame.dtype} after {first.shape}")
    return np.ascontiguousarray(frame)


def _save_gif(path: Path, frames: list[np.ndarray], fps: float) -> None:
    # One palette for all: a palette for each frame would make still parts flicker.
    some = np.concatenate([frame[::2, ::2].reshape(-1, 3) for frame in frames[:: -(-len(frames) // 12)]])
    some = some[(some < 255).any(axis=1)][None]
    palette = Image.fromarray(some if some.size else np.zeros((1, 1, 3), np.uint8))
    palette = palette.quantize(255, Image.Quantize.MEDIANCUT, kmeans=2)
    colours = [*(palette.getpalette() or [])[: 255 * 3], 255, 255, 255]
    palette.putpalette(colours)
    shown = []
    for frame in frames:
        index = np.array(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
        index[(frame == 255).all(axis=-1)] = len(colours) // 3 - 1  # Pillow's search is coarse; paper stays white
        image = Image.fromarray(index)
        image.putpalette(colours)
        shown.append(image)
    shown[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=shown[1:],
        duration=max(20, round(100 / fps) * 10),  # shorter ones are not heeded by browsers
        loop=0,
        optimize=False,
    )


def _save_mp4(path: Path, frames: Iterable[np.ndarray], shape: tuple[int, ...], fps: float) -> None:
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{shape[1]}x{shape[0]}", "-r", f"{fps:g}", "-i", "-"]
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white,scale=out_color_matrix=bt709:out_range=tv"
    tags = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    coder = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16", "-movflags", "+faststart", "-f", "mp4"]
    command = [_ffmpeg(), "-y", "-loglevel", "error", *source, "-vf", even, *coder, *tags, str(path)]
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words)
        assert process.stdin is not None
        try:
            for frame in frames:
                process.stdin.write(frame.tobytes())
        except BrokenPipeError:
            pass  # it ended early, and says below why
        except BaseException:
            process.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        words.seek(0)
        said = words.read().decode("utf-8", "replace").strip()
    if status:
        raise InputError(f"ffmpeg could not write {path.suffix} ({said or f'status {status}'}); try a .gif")


def _ffmpeg() -> str:
    """The ffmpeg of the machine, else the one that `imageio-ffmpeg` brings."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise InputError('.mp4 needs ffmpeg: pip install "deepsdf[video]", or save a .gif') from None

"""Films: their frames and timing when read back, and that no partial file is left."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from deepsdf.errors import InputError
from deepsdf.rendering import film as render_film
from deepsdf.rendering.render import save_film

NEEDS_FFMPEG = "needs imageio-ffmpeg: pip install deepsdf[video]"


def moving_square(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    frames = np.full((count, height, width, 3), (255, 250, 245), np.uint8)
    for k, frame in enumerate(frames):
        frame[8:24, 4 * k : 4 * k + 16] = (200, 40, 90)
    return list(frames)


def gif_frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]


def gif_durations(path: Path) -> list[int]:
    with Image.open(path) as film:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(film)]


@pytest.mark.parametrize(("fps", "duration"), [(20, 50), (10, 100), (30, 30), (1, 1000), (100, 20)])
def test_a_gif_of_few_colours_is_exact_and_loops(tmp_path: Path, fps: float, duration: int):
    frames = moving_square(5)
    save_film(tmp_path / "new" / "film.gif", iter(frames), fps=fps)
    path = tmp_path / "new" / "film.gif"
    assert [entry.name for entry in path.parent.iterdir()] == ["film.gif"]
    assert np.array_equal(gif_frames(path), frames)
    assert gif_durations(path) == [duration] * 5
    with Image.open(path) as film:
        assert (film.size, film.info["loop"]) == ((64, 48), 0)


def test_repeated_frames_keep_their_duration(tmp_path: Path):
    a, b = moving_square(2)
    save_film(tmp_path / "film.gif", [a, a, a, b], fps=10)
    assert sum(gif_durations(tmp_path / "film.gif")) == 400


def test_a_gif_of_many_colours_is_close_and_its_background_exact(tmp_path: Path):
    across, down = np.meshgrid(np.arange(96), np.arange(96))
    frames = []
    for k in range(3):
        frame = np.stack([across * 2 + 20, down * 2 + 20, np.full_like(across, 60 + 40 * k)], axis=-1).astype(np.uint8)
        frame[:48] = (254, 253, 251)
        frames.append(frame)
    assert len(np.unique(np.concatenate(frames).reshape(-1, 3), axis=0)) > 256
    save_film(tmp_path / "film.gif", frames)
    shown = gif_frames(tmp_path / "film.gif")
    assert len(shown) == 3
    for frame, original in zip(shown, frames, strict=True):
        assert (frame[:48] == (254, 253, 251)).all()
        difference = np.abs(frame.astype(int) - original)
        assert difference.mean() < 6
        assert difference.max() < 40


def test_still_parts_of_a_gif_do_not_flicker(tmp_path: Path):
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (48, 32, 3)).astype(np.uint8)
    frames = [np.hstack([still, rng.integers(0, 256, (48, 32, 3)).astype(np.uint8)]) for _ in range(3)]
    save_film(tmp_path / "film.gif", frames)
    shown = gif_frames(tmp_path / "film.gif")
    assert all(np.array_equal(frame[:, :32], shown[0][:, :32]) for frame in shown)


def decoded(path: Path, height: int, width: int) -> tuple[str, np.ndarray]:
    """Output of ffmpeg on a film, and its frames."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason=NEEDS_FFMPEG).get_ffmpeg_exe()
    command = [ffmpeg, "-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stderr.decode(), np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 65)])
def test_an_mp4(tmp_path: Path, height: int, width: int):
    pytest.importorskip("imageio_ffmpeg", reason=NEEDS_FFMPEG)
    frames = moving_square(6, height, width)
    save_film(tmp_path / "film.mp4", iter(frames), fps=12)
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.mp4"]
    report, shown = decoded(tmp_path / "film.mp4", height + height % 2, width + width % 2)
    assert re.search(
        rf"Video: h264.* yuv420p\(tv, bt709.* {width + width % 2}x{height + height % 2}[, ].* 12 fps", report
    )
    assert "Duration: 00:00:00.50" in report
    assert len(shown) == 6
    for frame, original in zip(shown, frames, strict=True):
        assert np.abs(frame[:height, :width].astype(int) - original).mean() < 3


class Broken(Exception):
    pass


def breaks_after(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    yield from frames
    raise Broken


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_failed_film_leaves_no_partial_file(tmp_path: Path, suffix: str):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason=NEEDS_FFMPEG)
    path = tmp_path / f"film{suffix}"
    with pytest.raises(Broken):
        save_film(path, breaks_after(moving_square(3)))
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"an older film")
    odd = [*moving_square(2), np.zeros((10, 10, 3), np.uint8)]
    with pytest.raises(InputError, match=r": a frame is \(10, 10, 3\) uint8; expected \(48, 64, 3\) uint8$"):
        save_film(path, odd)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"an older film"


def test_error_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frames = moving_square(2)
    with pytest.raises(InputError, match=r"film\.avi: unknown film format; expected \.gif or \.mp4$"):
        save_film(tmp_path / "film.avi", frames)
    with pytest.raises(InputError, match=r"film\.gif: a film needs at least one frame"):
        save_film(tmp_path / "film.gif", [])
    for fps in (0, -1, 101, float("nan")):
        with pytest.raises(InputError, match=f"^fps is {fps}; expected a frame rate above 0 and at most 100$"):
            save_film(tmp_path / "film.gif", frames, fps=fps)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(
            InputError, match=r"film\.gif: a frame is \(.*\) (uint8|float64); expected \(4, 4, 3\) uint8$"
        ):
            save_film(tmp_path / "film.gif", [wrong])
    monkeypatch.setattr(render_film, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'\.mp4 needs ffmpeg; run pip install "deepsdf\[video\]", or save a \.gif$'):
        save_film(tmp_path / "film.mp4", frames)
    assert not list(tmp_path.iterdir())

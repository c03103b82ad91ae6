"""Atomic writing of files, locks, and names that stay in their folder."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deepsdf.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path next to `path`. It is renamed to `path` if the block succeeds, and removed if it fails.

    The temporary name keeps the suffix, from which writers choose the format.
    """
    path = Path(path)
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:80]}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove temporary files below a folder that were left by killed processes of this machine."""
    if os.name != "posix":
        return  # on Windows, signal 0 would terminate the process
    ours = re.compile(rf"\..*\.{_machine()}-(\d+)-[0-9a-f]{{8}}\.tmp(\..*)?", re.DOTALL)
    for path in Path(folder).rglob(".*.tmp*"):
        if (found := ours.fullmatch(path.name)) and not _is_running(int(found[1])):
            path.unlink(missing_ok=True)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a process of another user
    return True


def check_folder(path: str | os.PathLike[str]) -> None:
    """Check that a folder exists or can be created, before long work starts.

    Raises:
        InputError: the path, or one of its parents, is a file.
    """
    path = Path(path)
    existing = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    if existing.exists() and not existing.is_dir():
        raise InputError(f"{existing} is a file, but a folder is needed; choose another path, or move the file")


@contextmanager
def held(path: str | os.PathLike[str], *, timeout: float = -1) -> Iterator[bool]:
    """Hold a lock file exclusively until the block or the process ends.

    Args:
        timeout: seconds to wait for another process; negative values wait without limit.
    Yields:
        Whether the lock is held. It is not on file systems without locks, where only atomic writing protects files.
    Raises:
        filelock.Timeout: another process still holds the lock.
    """
    from filelock import FileLock

    lock = FileLock(path)
    with suppress(NotImplementedError):
        lock.acquire(timeout=timeout)
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of a folder until the block ends. For files that several processes update."""
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path):
        yield


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as text of a .csv file. Floats are written by `str`, None as an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Content of a JSON file.

    Args:
        what: what is expected, with an article, for errors: "a split file".
    Raises:
        InputError: no such file, a folder, or invalid JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"there is no {what.partition(' ')[2]} at {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; expected {what}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not {what}: it is not valid JSON ({error})") from None


def safe_name(name: object, where: str) -> str:
    """Return `name` if it is a plain folder or file name.

    Names come from split files of any origin and must not lead out of the folder in which they are used.

    Args:
        where: source of the name, for errors.
    Raises:
        InputError: not a string, empty, too long, or a path.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: {name!r} is not a name; expected a non-empty string")
    if len(name.encode("utf-8", "replace")) > 240:
        raise InputError(f"{where}: the name {name[:40]!r}... is longer than 240 bytes, the limit for file names")
    if name in {".", ".."} or any(sign in name for sign in "/\\\0") or (len(name) > 1 and name[1] == ":"):
        raise InputError(
            f"{where}: the name {name!r} would leave its folder; names must not contain '/' or '\\', or be '..'"
        )
    return name

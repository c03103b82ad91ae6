"""Whole files or none: writing by a temporary name, and names that stay in their folder."""

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
    """A temporary path beside `path`; renamed to `path` when the block ends well, removed when it does not.

    The temporary name keeps the suffix, because writers choose their format by it.
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
    """Remove temporary files below a folder whose writer, a process of this machine, was killed in the midst."""
    if os.name != "posix":
        return  # elsewhere the signal that asks whether a process lives would end it
    ours = re.compile(rf"\..*\.{_machine()}-(\d+)-[0-9a-f]{{8}}\.tmp(\..*)?", re.DOTALL)
    for path in Path(folder).rglob(".*.tmp*"):
        if (found := ours.fullmatch(path.name)) and not _lives(int(found[1])):
            path.unlink(missing_ok=True)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def check_folder(path: str | os.PathLike[str]) -> None:
    """Whether a folder is there or can be made, to know before the work.

    Raises:
        InputError: a file stands in its place.
    """
    path = Path(path)
    there = next((place for place in (path, *path.parents) if place.exists()), path)
    if there.exists() and not there.is_dir():
        raise InputError(f"{there} is a file; a folder is needed there: name another one, or move the file away")


@contextmanager
def held(path: str | os.PathLike[str], *, timeout: float = -1) -> Iterator[bool]:
    """Alone among the programs that hold a lock file, until the block ends, or the process.

    Args:
        timeout: seconds to wait for another program; below 0 without end.
    Yields:
        Whether it is so: not on a file system without locks, where whole files are all that can be promised.
    Raises:
        filelock.Timeout: another program still holds it.
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
    """Alone among the programs that work on a folder, until the block ends. For files that several of them amend."""
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path):
        yield


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as the text of a .csv; floats as Python writes them, None as an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """A JSON file's content; `what` says in the error what was expected, as "a split file"."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"there is no {what.partition(' ')[2]} at {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; {what} was expected there") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not {what}: it is no valid JSON ({error})") from None


def safe_name(name: object, where: str) -> str:
    """`name` if it is one plain folder or file name.

    Names come from split files, which come from anywhere: none may lead out of the folder it is used in.

    Raises:
        InputError: not a string, empty, or able to leave its folder; says `where` it stands.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: {name!r} is not a name; a non-empty text was expected")
    if len(name.encode("utf-8", "replace")) > 240:
        raise InputError(f"{where}: the name {name[:40]!r}... is longer than the 240 bytes that a file's name may have")
    if name in {".", ".."} or any(sign in name for sign in "/\\\0") or (len(name) > 1 and name[1] == ":"):
        raise InputError(f"{where}: the name {name!r} would leave its folder; names may not hold '/', '\\' or be '..'")
    return name

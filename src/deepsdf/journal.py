"""Atomic replacement of several files of a folder (a write-ahead journal).

    1. Write the new files under temporary names that share a token.
    2. Write a record with the token and the names, by one rename. This is the commit: before it the old files are
       valid, after it the new ones.
    3. Rename the new files to their final names.
    4. Remove the record.

While a record exists, all new files exist: `current` returns where a reader finds a file, and `recover` finishes steps
3 and 4. Each step is synchronised to disk before the next one, so that this also holds after a power failure.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deepsdf.errors import InputError
from deepsdf.files import safe_name

RECORD = ".commit.json"

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.new")


@dataclass(frozen=True)
class _Record:
    token: str
    files: list[Path]
    remove: list[Path]

    @classmethod
    def read(cls, root: Path) -> _Record | None:
        try:
            content = json.loads((root / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{root / RECORD} cannot be read ({error}); remove it to use the old files") from None
        try:
            if not re.fullmatch("[0-9a-f]{16}", content["token"]):
                raise ValueError(content["token"])
            names = [[_below(root, name) for name in content[kind]] for kind in ("files", "remove")]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{root / RECORD} is not a checkpoint record ({error}); remove it") from None
        return cls(content["token"], *names)

    def temporary(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self.token}.new")


def _below(root: Path, name: str) -> Path:
    """The path of a name in a record, which may be of any origin: it must be in the folder or one level below."""
    parts = name.split("/")
    if len(parts) > 2:
        raise ValueError(name)
    return root.joinpath(*(safe_name(part, RECORD) for part in parts))


def write_together(root: Path, contents: Mapping[Path, Callable[[], bytes]], remove: Iterable[Path] = ()) -> None:
    """Replace and remove files of a folder atomically.

    Only one process at a time may do this in a folder, after `recover`.

    Args:
        root: the folder. The files are in it or one level below.
        contents: functions that return the content of each file; called one by one, to limit memory.
        remove: files to remove.
    Raises:
        OSError: writing failed. Nothing has changed if it failed before the commit; otherwise `recover` finishes it.
    """
    record = _Record(uuid.uuid4().hex[:16], list(contents), list(remove))
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(record.temporary(path), content())
        text = json.dumps(
            {
                "token": record.token,
                "files": [path.relative_to(root).as_posix() for path in record.files],
                "remove": [path.relative_to(root).as_posix() for path in record.remove],
            }
        )
        temporary = record.temporary(root / RECORD)
        _write(temporary, text.encode())
        _sync_folders(record.files)
        os.replace(temporary, root / RECORD)
    except BaseException:
        if not _committed(root, record):  # an interrupt may arrive right after the rename
            for path in (*record.files, root / RECORD):
                with suppress(OSError):
                    os.unlink(record.temporary(path))
        raise
    _finish(root, record)


def recover(root: Path) -> None:
    """Finish a committed replacement that was interrupted, and remove an uncommitted one.

    Only for the process that writes to the folder.
    """
    record = _Record.read(root)
    if record:
        _finish(root, record)
    for path in (*root.glob(".*.new"), *root.glob("*/.*.new")):
        if _TEMPORARY.fullmatch(path.name):
            os.unlink(path)


def current(root: Path, path: Path) -> Path:
    """Path of the newest content of a file.

    If that path no longer exists when it is opened, the file has been renamed to `path` in the meantime.
    """
    record = _Record.read(root)
    if record and path in record.files and record.temporary(path).is_file():
        return record.temporary(path)
    return path


def listed(root: Path, folder: Path) -> set[str]:
    """Names of a folder's files after pending renames and removals."""
    record = _Record.read(root)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if record:
        # A file that is both removed and new exists afterwards.
        names -= {path.name for path in record.remove if path.parent == folder}
        names |= {path.name for path in record.files if path.parent == folder}
    return {name for name in names if not _TEMPORARY.fullmatch(name)}


def _committed(root: Path, record: _Record) -> bool:
    with suppress(InputError):
        found = _Record.read(root)
        return found is not None and found.token == record.token
    return False


def _finish(root: Path, record: _Record) -> None:
    _sync_folders([root / RECORD])
    for path in record.remove:
        if path not in record.files:
            with suppress(FileNotFoundError):
                os.unlink(path)
    for path in record.files:
        with suppress(FileNotFoundError):  # already renamed before the interruption
            os.replace(record.temporary(path), path)
    _sync_folders([*record.files, *record.remove])
    os.unlink(root / RECORD)


def _write(path: Path, content: bytes) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(number, rest[: 1 << 24]) :]
        os.fsync(number)
    finally:
        os.close(number)


def _sync_folders(files: Iterable[Path]) -> None:
    """Synchronise renames and new files of the files' folders to disk."""
    for folder in {path.parent for path in files}:
        with suppress(FileNotFoundError, PermissionError, NotImplementedError):  # Windows cannot open folders
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)

"""Files of a folder that change together, wherever the program stops.

New files are written under temporary names that share a token. Then a record of the token and the names appears, by
one rename: before it the old files count, after it the new ones. Then the files take their names and the record goes.
Whoever finds a record finds the new files too: `current` tells a reader where one is, `recover` finishes the renames.

Every step is on the disk before the next begins, so this holds for a power cut as for a killed process.
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
            raise InputError(f"{root / RECORD} cannot be read ({error}); without it, the last checkpoint is") from None
        try:
            if not re.fullmatch("[0-9a-f]{16}", content["token"]):
                raise ValueError(content["token"])
            names = [[_below(root, name) for name in content[kind]] for kind in ("files", "remove")]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{root / RECORD} is no record of a checkpoint ({error}); remove it") from None
        return cls(content["token"], *names)

    def temporary(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self.token}.new")


def _below(root: Path, name: str) -> Path:
    """The record may come from anywhere; what it names lies in its folder, or one below."""
    parts = name.split("/")
    if len(parts) > 2:
        raise ValueError(name)
    return root.joinpath(*(safe_name(part, RECORD) for part in parts))


def write_together(root: Path, contents: Mapping[Path, Callable[[], bytes]], remove: Iterable[Path] = ()) -> None:
    """Replace files of a folder and remove others, all or none.

    Only one program at a time may do so in a folder, after `recover`.

    Args:
        root: the folder; the files lie in it or one below.
        contents: what makes each file's bytes, asked one by one.
        remove: files that are not to be there afterwards.
    Raises:
        OSError: where that is before the record is there, nothing changed; after it, `recover` will finish.
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
        if not _decided(root, record):  # an interrupt may fall between the rename and here
            for path in (*record.files, root / RECORD):
                with suppress(OSError):
                    os.unlink(record.temporary(path))
        raise
    _finish(root, record)


def recover(root: Path) -> None:
    """Finish what was decided before the program stopped, and remove what was not. For the folder's only writer."""
    record = _Record.read(root)
    if record:
        _finish(root, record)
    for path in (*root.glob(".*.new"), *root.glob("*/.*.new")):
        if _TEMPORARY.fullmatch(path.name):
            os.unlink(path)


def current(root: Path, path: Path) -> Path:
    """Where the newest content of a file of the folder is. If nothing is there when it is opened, it is at `path`."""
    record = _Record.read(root)
    if record and path in record.files and record.temporary(path).is_file():
        return record.temporary(path)
    return path


def listed(root: Path, folder: Path) -> set[str]:
    """Names of a folder's files, as they are when what was decided is finished."""
    record = _Record.read(root)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if record:
        # A file to be removed is written first where it is also among the new ones.
        names -= {path.name for path in record.remove if path.parent == folder}
        names |= {path.name for path in record.files if path.parent == folder}
    return {name for name in names if not _TEMPORARY.fullmatch(name)}


def _decided(root: Path, record: _Record) -> bool:
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
        with suppress(FileNotFoundError):  # renamed before the program stopped
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
    """Renames and new names are on the disk afterwards."""
    for folder in {path.parent for path in files}:
        with suppress(FileNotFoundError, PermissionError, NotImplementedError):  # Windows opens no folders
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)

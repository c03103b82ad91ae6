"""Files that change together: a stop before or after every single operation on the file system."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepsdf import journal
from deepsdf.errors import InputError
from deepsdf.journal import RECORD, current, listed, recover, write_together

NAMES = ("a/x.pth", "b/x.pth", "logs.pth")
OLD = {**dict.fromkeys(NAMES, b"old"), "a/gone.pth": b"old"}
NEW = dict.fromkeys((*NAMES, "a/first.pth"), b"new")


class PowerCut(BaseException):
    """Nothing works after it: what a `finally` still tries must not help."""


class MortalOS:
    """The `os` module, until the power is cut: at the n-th operation that changes something, before or after it."""

    def __init__(self, operations: int, after: bool) -> None:
        self.left, self.after, self.dead = operations, after, False

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in {"open", "write", "fsync", "replace", "unlink", "close"}:
            return function

        def mortal(*arguments: Any) -> Any:
            if self.dead:
                raise PowerCut
            self.left -= 1
            if self.left == 0:
                self.dead = True
                if name == "write":  # half of it
                    os.write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                elif self.after:
                    function(*arguments)
                raise PowerCut
            return function(*arguments)

        return mortal


def write_files(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(content)


def change(root: Path) -> None:
    def maker(content: bytes) -> Callable[[], bytes]:
        return lambda: content

    write_together(root, {root / name: maker(content) for name, content in NEW.items()}, [root / "a/gone.pth"])


def content(root: Path) -> dict[str, bytes]:
    """Every file, under its own name."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def seen(root: Path) -> dict[str, bytes]:
    """What a reader finds who changes nothing."""
    names = [f"{folder}/{name}".removeprefix("./") for folder in "ab." for name in listed(root, root / folder)]
    return {name: current(root, root / name).read_bytes() for name in sorted(names) if name.endswith(".pth")}


def cut(root: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Path], None], at: int, after: bool) -> bool:
    """Whether the power was cut before the work was done."""
    with monkeypatch.context() as patch:
        patch.setattr(journal, "os", MortalOS(at, after))
        try:
            work(root)
        except PowerCut:
            return True
    return False


@pytest.mark.parametrize("after", [False, True])
def test_a_power_cut_at_any_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    outcomes = []
    for at in range(1, 1000):
        root = tmp_path / str(at)
        write_files(root, OLD)
        if not cut(root, monkeypatch, change, at, after):
            break
        before = seen(root)
        assert before in (dict(sorted(OLD.items())), dict(sorted(NEW.items()))), at
        recover(root)
        assert content(root) == before == seen(root)
        outcomes.append(before == NEW)
    assert content(root) == dict(sorted(NEW.items()))  # pyright: ignore[reportPossiblyUnboundVariable]
    assert len(outcomes) > 30
    # One operation decides.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False
    assert outcomes[-1] is True


def test_a_power_cut_while_recovering_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(1, 1000, 3):
        write_files(first := tmp_path / str(at), OLD)
        if not cut(first, monkeypatch, change, at, True):
            break
        expected = seen(first)
        for again in range(1, 1000):
            root = tmp_path / f"{at}-{again}"
            write_files(root, content(first))
            whole = not cut(root, monkeypatch, recover, again, again % 2 == 0)
            assert seen(root) == expected
            recover(root)
            assert content(root) == expected
            if whole:
                break
    assert at > 30  # pyright: ignore[reportPossiblyUnboundVariable]


@pytest.mark.parametrize("name", ["write", "fsync", "open", "replace"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_files(tmp_path, OLD)
    calls = 0

    def full(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (1 if name == "replace" else 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        return getattr(os, name)(*arguments)

    class FullOS:
        def __getattr__(self, asked: str) -> Any:
            return full if asked == name else getattr(os, asked)

    monkeypatch.setattr(journal, "os", FullOS())
    with pytest.raises(OSError, match="No space left"):
        change(tmp_path)
    assert content(tmp_path) == dict(sorted(OLD.items()))


def test_an_interrupt_right_after_the_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's exception can come between a call that succeeded and the next line."""
    write_files(tmp_path, OLD)

    class SignalOS:
        def __getattr__(self, asked: str) -> Any:
            return replace if asked == "replace" else getattr(os, asked)

    def replace(old: Path, new: Path) -> None:
        os.replace(old, new)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "os", SignalOS())
        with pytest.raises(KeyboardInterrupt):
            change(tmp_path)
    assert seen(tmp_path) == NEW == dict(sorted(NEW.items()))
    recover(tmp_path)
    assert content(tmp_path) == NEW


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a/b/c", "", "a//x"])
def test_a_record_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    write_files(root, OLD)
    for kind in ("files", "remove"):
        record = {"token": "0" * 16, "files": [], "remove": [], kind: [name]}
        (root / RECORD).write_text(json.dumps(record))
        for work in (recover, lambda root: current(root, root / "a/x.pth"), lambda root: listed(root, root / "a")):
            with pytest.raises(InputError, match="is not a checkpoint record"):
                work(root)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"token": "../../x", "files": [], "remove": []}', '{"token": 3}']
)
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(InputError, match=r"\.commit\.json (is not a checkpoint record|cannot be read)"):
        recover(tmp_path)


def test_only_its_own_temporary_files_are_swept(tmp_path: Path) -> None:
    mine = ["a/.x.pth.0123456789abcdef.new", ".logs.pth.0123456789abcdef.new"]
    others = ["a/.x.new", "a/x.pth.0123456789abcdef.new", "a/b/.x.pth.0123456789abcdef.new", ".notes.0123.new"]
    write_files(tmp_path, dict.fromkeys([*mine, *others], b""))
    recover(tmp_path)
    assert content(tmp_path) == dict.fromkeys(sorted(others), b"")

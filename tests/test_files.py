"""Whole files or none, and names that stay in their folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepsdf.errors import InputError
from deepsdf.files import atomic_path, read_json, safe_name, sweep, write_text


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.npz"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".npz"  # writers choose the format by it
        temporary.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_wrote_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere there is no harmless way to ask whether a process lives")
def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from deepsdf.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "deep" / "a.b.npz")], check=False)
    (left,) = (tmp_path / "deep").iterdir()
    elsewhere = left.with_name(re.sub("[0-9a-f]{8}-", "00000000-", left.name, count=1))  # of another machine
    kept = [elsewhere, left.with_name(".hidden.tmp.npz"), left.with_name("a.tmp.npz")]
    for path in kept:
        path.write_text("kept")
    with atomic_path(tmp_path / "deep" / "a.b.npz") as temporary:
        temporary.write_text("whole")
        sweep(tmp_path)  # this process lives
        assert not left.exists()
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"a.b.npz", *(path.name for path in kept)}


def test_the_longest_name_a_file_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".ply")
    write_text(path, "here")
    assert path.read_text() == "here"


def test_read_json_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no split file at .*none.json"):
        read_json(tmp_path / "none.json", "a split file")
    with pytest.raises(InputError, match=r"is a folder; expected a split file"):
        read_json(tmp_path, "a split file")
    (tmp_path / "half.json").write_text('{"a": [1, 2')
    with pytest.raises(InputError, match=r"half.json is not a split file: it is not valid JSON .*line 1"):
        read_json(tmp_path / "half.json", "a split file")
    (tmp_path / "binary.json").write_bytes(b"\x80\x02\xff")
    with pytest.raises(InputError, match=r"binary.json is not a split file"):
        read_json(tmp_path / "binary.json", "a split file")


@pytest.mark.parametrize("name", ["1a04e3eab45ca15dd86060f189eb133", "model 1.v2", "Stühle", "..a", "a..", "-c", "C"])
def test_plain_names_are_taken_as_they_are(name: str) -> None:
    assert safe_name(name, "here") == name


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../a", "/etc", "a\\b", "C:", "C:a", "a\0b"])
def test_names_that_leave_their_folder(name: str) -> None:
    with pytest.raises(InputError, match=r"^here: the name .* would leave its folder"):
        safe_name(name, "here")


@pytest.mark.parametrize("name", ["", None, 3, ["a"]])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(InputError, match=r"^here: .* is not a name; expected a non-empty string"):
        safe_name(name, "here")


@given(st.text(alphabet="./\\:aC\0 ", max_size=5))
@example("...")
def test_an_accepted_name_stays_below_its_folder(name: str) -> None:
    try:
        accepted = safe_name(name, "here")
    except InputError:
        return
    folder = Path("/some/folder")
    assert (folder / accepted).parent == folder

"""A process is alive exactly while it holds its file; folders of the dead are known by that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.gateway.process_files import ProcessFiles

pytestmark = pytest.mark.parametrize("books", ["sqlite"], indirect=True)
"""No test here has any database."""

HOLD = """
import sys
from pathlib import Path
from safelight.gateway.process_files import ProcessFiles
held = ProcessFiles(Path(sys.argv[1]), "other")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_process_is_alive_from_its_registration_until_it_leaves(tmp_path: Path) -> None:
    one, two = ProcessFiles(tmp_path, "one"), ProcessFiles(tmp_path, "two")
    assert one.locked("one")
    assert one.locked("two")
    assert two.locked("one")
    two.leave()
    assert not one.locked("two")
    assert not two.locked("two")
    assert one.dead() == set()
    one.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_is_dead_at_once_and_its_file_says_so(tmp_path: Path) -> None:
    mine = ProcessFiles(tmp_path, "mine")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert mine.locked("other")
        assert mine.dead() == set()
        other.kill()
        other.wait(10)
        assert not mine.locked("other")
        assert mine.dead() == {"other"}
    mine.forget("other")
    assert mine.dead() == set()
    mine.leave()


def test_a_file_that_a_start_has_not_locked_yet_is_no_dead_process(tmp_path: Path) -> None:
    mine = ProcessFiles(tmp_path, "mine")
    (tmp_path / "other.new").touch()
    assert mine.dead() == set()
    mine.leave()


def test_nobody_is_alive_without_a_name_or_a_file(tmp_path: Path) -> None:
    mine = ProcessFiles(tmp_path, "mine")
    assert not mine.locked("")
    assert not mine.locked("never")
    mine.leave()


def test_only_folders_of_the_dead_are_removed(tmp_path: Path) -> None:
    mine, other = (
        ProcessFiles(tmp_path / "processes", "mine"),
        ProcessFiles(tmp_path / "processes", "other"),
    )
    uploads = tmp_path / "uploads"
    for process in (mine, other):
        (process.own_folder(uploads) / "picture").write_bytes(b"x")
    (uploads / "dead").mkdir()
    (uploads / "dead" / "picture").write_bytes(b"x")
    (uploads / "of an earlier version").write_bytes(b"x")
    mine.remove_left(uploads)
    assert {path.name for path in uploads.iterdir()} == {"mine", "other"}
    assert (uploads / "other" / "picture").exists()
    other.leave()
    assert mine.left_folders(uploads) == [uploads / "other"]
    mine.remove_left(uploads)
    assert [path.name for path in uploads.iterdir()] == ["mine"]
    mine.leave()


def test_a_name_that_cannot_be_registered_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "something").touch()
    with pytest.raises(ConfigError, match="cannot be locked"):
        ProcessFiles(tmp_path, "mine")

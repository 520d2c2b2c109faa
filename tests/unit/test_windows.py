"""Files in aligned windows, straight from their disk."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path

import pytest

from safelight.windows import ALIGN, Window, digest_of, from_disk

LENGTHS = (0, 1, ALIGN - 1, ALIGN, ALIGN + 1, 3 * ALIGN + 17)


def written(folder: Path, length: int) -> tuple[Path, bytes]:
    data = random.Random(length).randbytes(length)
    path = folder / "file"
    path.write_bytes(data)
    return path, data


@pytest.mark.parametrize("length", LENGTHS)
def test_a_whole_file_comes_in_order_whatever_its_length(tmp_path: Path, length: int) -> None:
    path, data = written(tmp_path, length)
    with path.open("rb", buffering=0) as file:
        parts = [bytes(part) for part in Window(file.fileno(), ALIGN).all()]
        assert digest_of(file.fileno()) == hashlib.sha256(data).hexdigest()
    assert b"".join(parts) == data
    assert all(len(part) <= ALIGN for part in parts)


def test_any_place_can_be_looked_at_in_any_order(tmp_path: Path) -> None:
    """What comes is never empty but at the end and beyond it."""
    path, data = written(tmp_path, 3 * ALIGN + 17)
    offsets = random.Random(1).choices(range(len(data) + 100), k=500)
    with path.open("rb", buffering=0) as file:
        window = Window(file.fileno(), 2 * ALIGN)
        for offset in offsets:
            part = bytes(window.at(offset))
            assert part == data[offset : offset + len(part)]
            assert bool(part) == (offset < len(data))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_disk_has_what_was_written(tmp_path: Path, length: int) -> None:
    path, data = written(tmp_path, length)
    assert from_disk(path, digest_of) == hashlib.sha256(data).hexdigest()


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="there are no direct reads here")
def test_where_direct_reads_are_refused_plain_ones_are_made(tmp_path: Path) -> None:
    """Some file systems refuse when the file is opened, some when it is read."""
    path, data = written(tmp_path, 5000)
    refusals = iter([OSError(errno.EINVAL, "no direct reads")])

    def work(descriptor: int) -> bytes:
        for refusal in refusals:
            raise refusal
        return b"".join(bytes(part) for part in Window(descriptor).all())

    assert from_disk(path, work) == data


def test_other_troubles_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        from_disk(tmp_path / "nothing", digest_of)
    path, _ = written(tmp_path, 10)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        from_disk(path, broken)

"""The spool file: what is written in whichever pieces is what lies there."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from pathlib import Path

import pytest

from safelight.upstreams.spool import BLOCK_BYTES, Spool

DATA = random.Random(1).randbytes(9 * BLOCK_BYTES + 12_345)


@pytest.mark.parametrize(
    "piece", [777, 192_000, BLOCK_BYTES - 1, BLOCK_BYTES, 5 * BLOCK_BYTES + 1, len(DATA)]
)
def test_the_file_has_what_was_written_in_pieces_of_any_length(piece: int, tmp_path: Path) -> None:
    with Spool(tmp_path / "a") as spool:
        for at in range(0, len(DATA), piece):
            spool.write(DATA[at : at + piece])
        received = spool.commit(upstream_request_id="req_1")
    assert (tmp_path / "a").read_bytes() == DATA
    assert (received.digest, received.bytes) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_whole_blocks_are_on_their_way_to_the_disk_before_the_end(tmp_path: Path) -> None:
    """At most a block and a piece are kept in memory, and the file's end is a block's."""
    with Spool(tmp_path / "a") as spool:
        for at in range(0, len(DATA), 100_000):
            spool.write(DATA[at : at + 100_000])
            lying = (tmp_path / "a.part").stat().st_size
            assert lying % BLOCK_BYTES == 0
            assert spool.size - lying < BLOCK_BYTES
            assert DATA.startswith((tmp_path / "a.part").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to("/dev/full")

    def keep() -> None:
        with Spool(tmp_path / "a") as spool:
            spool.write(DATA)
            spool.commit()

    with pytest.raises(OSError, match="No space left"):
        keep()
    assert list(tmp_path.iterdir()) == []


def test_many_that_have_begun_keep_a_block_each_and_no_whole_piece(tmp_path: Path) -> None:
    """Hundreds may wait for their place after their first piece."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    spools = [Spool(tmp_path / str(number)) for number in range(50)]
    for spool in spools:
        spool.write(DATA[: 4 * BLOCK_BYTES - 1])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held - before < 50 * (BLOCK_BYTES + 16 * 1024)
    for spool in spools:
        spool.__exit__(None, None, None)

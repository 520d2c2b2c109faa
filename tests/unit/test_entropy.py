"""Random numbers from the operating system, a block at a time."""

from __future__ import annotations

import os
import threading

import pytest

from safelight.entropy import Entropy


def test_no_byte_is_given_twice_whatever_is_asked_and_by_how_many_threads() -> None:
    """Ids of 16 bytes over some blocks: all are different."""
    entropy = Entropy()
    found: list[list[str]] = [[] for _ in range(4)]

    def draw(mine: list[str]) -> None:
        mine.extend(entropy.token_hex(16) for _ in range(2000))

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [one for mine in found for one in mine]
    assert len(set(ids)) == len(ids) == 8000
    assert {len(one) for one in ids} == {32}


def test_a_block_is_no_bound() -> None:
    assert len(Entropy().randbytes(100_000)) == 100_000


@pytest.mark.parametrize("bits", [0, 1, 7, 8, 9, 48, 53, 96, 128])
def test_integers_have_as_many_bits_as_were_asked_for(bits: int) -> None:
    """Each bit is set about every second time."""
    entropy = Entropy()
    drawn = [entropy.getrandbits(bits) for _ in range(400)]
    assert all(0 <= one < 1 << bits for one in drawn)
    for bit in range(bits):
        assert 100 < sum(one >> bit & 1 for one in drawn) < 300


def test_fractions_fill_the_unit_interval() -> None:
    entropy = Entropy()
    drawn = [entropy.random() for _ in range(1000)]
    assert all(0 <= one < 1 for one in drawn)
    assert 0.4 < sum(drawn) / len(drawn) < 0.6
    with pytest.raises(ValueError, match="negative"):
        entropy.getrandbits(-1)


def test_a_child_process_draws_its_own() -> None:
    entropy = Entropy()
    entropy.randbytes(10)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.write(writer, entropy.randbytes(16))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 16)
    os.close(reader)
    os.close(writer)
    assert theirs != entropy.randbytes(16)

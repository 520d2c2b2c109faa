"""The address of a server: alone, or shared by its own processes only."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from safelight import allocator, listening
from safelight.errors import ConfigError

HOST = "127.0.0.1"


def test_an_address_is_had_by_one_alone() -> None:
    """A second one is told what to do."""
    with (
        listening.taken(HOST, 0, 16) as first,
        pytest.raises(ConfigError, match="--port"),
    ):
        listening.taken(HOST, first.getsockname()[1], 16)


def test_a_reserved_address_is_shared_by_those_who_know_it() -> None:
    """They listen side by side; who wants it alone, or reserves it too, is refused."""
    with listening.reserved(HOST, 0) as address:
        port = address.getsockname()[1]
        with listening.shared(HOST, port) as one, listening.shared(HOST, port) as two:
            one.listen()
            two.listen()
            with pytest.raises(ConfigError, match="cannot listen"):
                listening.taken(HOST, port, 16)
            with pytest.raises(ConfigError, match="cannot listen"):
                listening.reserved(HOST, port)
            with socket.create_connection((HOST, port), timeout=5):
                pass


def test_a_reserved_address_alone_takes_no_connection() -> None:
    """While none of the processes listens, callers are refused and try again."""
    with listening.reserved(HOST, 0) as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, address.getsockname()[1]), timeout=5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other allocators")
def test_the_allocator_takes_its_settings() -> None:
    """In a process of its own: this one keeps what it has."""
    program = "from safelight import allocator; assert allocator.tune(); allocator.trim()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert allocator.SETTINGS


def test_what_was_made_before_is_not_looked_at_by_the_collector() -> None:
    """It would be at each full collection, while every caller waits."""
    program = (
        "import gc; from safelight import collector; collector.settle();"
        "assert gc.get_freeze_count() > 1_000; assert len(gc.get_objects()) < 100"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

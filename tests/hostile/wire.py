"""Connections of hostile clients, and what a server process is afterwards.

Owns bytes out, answers in, and the measures of a process: memory, open files, files on its disk.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from e2e.process import GatewayProcess

LIMIT_S = 2.0
"""Longest answer to anything hostile."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class Told:
    """What came back on one connection."""

    statuses: list[int] = field(default_factory=list)
    data: bytes = b""
    seconds: float = 0.0
    ended: bool = False
    """Whether it was answered, or closed, within the limit."""

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


def ask(port: int, data: bytes, *, cut: bool = False, limit_s: float = 3 * LIMIT_S) -> Told:
    """Send bytes on a connection of their own and read what is answered.

    Args:
        port: of the server on loopback.
        data: all that is sent.
        cut: end our half of the connection after it, as a sender that dies does.
        limit_s: when to give up, seconds.
    """
    told, began = Told(), time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as wire:
        try:
            wire.sendall(data)
            if cut:
                wire.shutdown(socket.SHUT_WR)
            while not _is_whole(told.data, cut=cut):
                part = wire.recv(65_536)
                if not part:
                    break
                told.data += part
            told.ended = True
        except TimeoutError:
            told.ended = False
        except OSError:  # reset: a close all the same
            told.ended = True
    told.seconds = time.monotonic() - began
    told.statuses = [int(code) for code in _STATUS.findall(told.data)]
    return told


def _is_whole(data: bytes, *, cut: bool) -> bool:
    """Whether an answer has all the bytes that its head promises; of a cut request: never."""
    head, found, body = data.partition(b"\r\n\r\n")
    if cut or not found or head.startswith(b"HTTP/1.1 100"):
        return False
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    if length is not None:
        return len(body) >= int(length[1])
    return head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304", b"HTTP/1.1 101"))


def memory_kb(gateway: GatewayProcess) -> int:
    """Return the resident memory of the server process, KB."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def open_files(gateway: GatewayProcess) -> int:
    """Return how many files and sockets the server process has open."""
    assert gateway.process is not None
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def uploads(gateway: GatewayProcess) -> list[Path]:
    """Return what is left of uploads on the disk."""
    return [path for path in (gateway.data / "uploads").rglob("*") if path.is_file()]

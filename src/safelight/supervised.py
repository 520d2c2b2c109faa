"""One of the server processes that a supervisor starts: `python -m safelight.supervised`.

Owns what such a process does beside serving: it takes its settings from standard input, says on
standard output when it listens or why it cannot, and ends when the supervisor does.
"""

from __future__ import annotations

import os
import sys
import threading

import msgspec

from safelight.errors import ConfigError
from safelight.server_info import ServerInfo
from safelight.serving import serve
from safelight.supervising import Said, decode

STDIN, STDOUT = 0, 1
ORPHANED = 70
"""Exit code of a process whose supervisor has gone; nobody is left to see it."""


def main() -> int:
    """Serve until told to stop; return the exit code."""
    settings = decode(_received(int.from_bytes(_received(8), "big")))
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    try:
        return serve(settings.config, on_ready=_announce, worker=settings.number)
    except ConfigError as error:
        _say(Said(refused=str(error)))
        return 2


def _received(count: int) -> bytes:
    body = bytearray()
    while len(body) < count:
        piece = os.read(STDIN, count - len(body))
        if not piece:
            sys.exit(ORPHANED)
        body += piece
    return bytes(body)


def _end_with_supervisor() -> None:
    """Wait for the end of the pipe, then end at once, as the whole server does when it is killed.

    Draining would keep the port from whoever starts the server again, which takes the jobs over.
    """
    os.read(STDIN, 1)
    os._exit(ORPHANED)


def _announce(info: ServerInfo) -> None:
    _say(Said(ready=info))


def _say(said: Said) -> None:
    os.write(STDOUT, msgspec.json.encode(said) + b"\n")


if __name__ == "__main__":
    sys.exit(main())

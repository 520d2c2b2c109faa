"""Processes that tests start: servers get canaries, and what any of them prints is looked through.

Owns what stands in for `subprocess.Popen` during the campaign, because tests start processes in
dozens of places. Of safelight nothing is replaced: servers get a configuration and an environment,
as operators give them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secrecy.cage import Cage

SERVERS = ("serve", "worker")
ASK_S = 1.0
CRASH_S = 10.0
CRASH_DUMPS = {"PYTHONFAULTHANDLER": "1"}
"""A process that crashes writes every thread's stack into its log."""

_WORD = re.compile(r"-{0,2}[a-z][a-z_.-]{0,30}")

_Popen: Any = subprocess.Popen


def watched(cage: Cage) -> type[Any]:
    """Return a Popen whose processes the cage watches."""

    class Watched(_Popen):  # type: ignore[misc]  # a base that mypy knows only as Any
        def __init__(self, args: Any, *more: Any, **named: Any) -> None:
            self.words = _words(args)
            self.serves = bool(set(SERVERS) & set(self.words)) and "--config" in self.words
            if self.serves:
                given = os.environ if named.get("env") is None else named["env"]
                named["env"] = {**given, **CRASH_DUMPS, **cage.environ()}
                _plant(cage, Path(_after(self.words, "--config")))
                cage.counts["servers"] += 1
            super().__init__(args, *more, **named)

        def communicate(self, *more: Any, **named: Any) -> tuple[Any, Any]:
            said: tuple[Any, Any] = super().communicate(*more, **named)
            for one in said:
                if one:
                    raw = one if isinstance(one, bytes) else one.encode("utf-8", "replace")
                    cage.see(f"output of {_named(self.words)}", raw)
            return said

        def send_signal(self, sig: int) -> None:
            """Ask a server for its metrics before it ends, and have it crash where it is killed.

            A crash is as sudden, and writes every thread's stack into the log. Of a frozen process
            nothing is to be had.
            """
            ends = sig in (signal.SIGTERM, signal.SIGKILL)
            if self.serves and ends and self.poll() is None and not _frozen(self.pid):
                _ask_metrics(cage, _after(self.words, "--port"))
                if sig == signal.SIGKILL:
                    cage.counts["crash dumps"] += 1
                    super().send_signal(signal.SIGABRT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.wait(CRASH_S)
            super().send_signal(sig)

    return Watched


def _words(args: Any) -> list[str]:
    if isinstance(args, str | bytes | Path):
        return [os.fsdecode(args)]
    return [os.fsdecode(one) for one in args]


def _frozen(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


def _named(words: Sequence[str]) -> str:
    """Return what a report calls a command: words alone, for arguments may be secrets."""
    return " ".join(word for word in words[1:8] if _WORD.fullmatch(word))


def _after(words: Sequence[str], option: str) -> str:
    at = words.index(option) if option in words else -2
    return words[at + 1] if 0 <= at < len(words) - 1 else ""


def _plant(cage: Cage, path: Path) -> None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
        if (planted := cage.config(text)) != text:
            path.write_text(planted, encoding="utf-8")


def _ask_metrics(cage: Cage, port: str) -> None:
    if port in ("", "0"):
        return
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics",
        headers={"authorization": f"Bearer {cage.secret('metrics token')}"},
    )
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(request, timeout=ASK_S) as answer,
    ):
        cage.see("metrics of a server", answer.read())

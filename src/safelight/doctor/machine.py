"""The machine: clock, open files, memory, fonts, time zone, and which versions run.

Owns what is asked of the operating system. Sends nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

import safelight
from safelight.clock import Clock
from safelight.config import Config
from safelight.doctor import Check, failed, ok, warning

GROUP = "machine"
FILES_A_JOB = 2
"""The caller's connection and the upstream's."""
_FILES_MIN = 4096
_OLDEST_MS = 1_760_000_000_000
"""No release of this program was used before that time (October 2025)."""
_SKEW_WARN_S, _SKEW_FAIL_S = 5.0, 300.0
"""Amazon refuses signatures that are fifteen minutes off, others earlier."""
_PACKAGES = ("aiohttp", "dbos", "msgspec", "obstore", "psycopg", "pyvips-binary", "uvicorn")
_PROCESS_BYTES = 300 * 1024 * 1024
"""What a process takes beside its buffers, generously."""


def check(config: Config, clock: Clock) -> Iterator[Check]:
    """Yield what is to be said of the machine."""
    yield _clock(clock)
    yield _files(config)
    yield _memory(config)
    yield _zone()
    if any(account.upstream == "proof" for account in config.accounts):
        yield _fonts()
    yield _versions()


def offset_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Return how far the clock behind a header Date is ahead of ours, seconds; None: no Date."""
    try:
        said = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return None
    # The header has whole seconds, rounded down: on average it is half a second old.
    return said + 0.5 - now_ms / 1000


def offset_check(group: str, whose: str, ahead_s: float) -> Check:
    """Judge the difference of two clocks."""
    if abs(ahead_s) <= _SKEW_WARN_S:
        return ok(group, "clock", f"within {_SKEW_WARN_S:g} s of the clock of {whose}")
    said = f"this clock is {-ahead_s:+.0f} s from that of {whose}"
    advice = "Let NTP set this clock: signatures and links end by it."
    judge = failed if abs(ahead_s) > _SKEW_FAIL_S else warning
    return judge(group, "clock", said, advice, ahead_s=round(ahead_s, 1))


def _clock(clock: Clock) -> Check:
    first, wall_ms = clock.monotonic(), clock.now_ms()
    if clock.monotonic() < first:
        said = "the monotonic clock went back"
        return failed(GROUP, "clock", said, "Mend the machine's clock source; nothing times well.")
    if wall_ms < _OLDEST_MS:
        said = f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(wall_ms / 1000))}"
        return failed(GROUP, "clock", said, "Set it by NTP: links and statements go by it.")
    return ok(GROUP, "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall_ms / 1000)))


def _files(config: Config) -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.server.max_in_flight * FILES_A_JOB
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return ok(GROUP, "open files", f"as many as max_in_flight needs ({needed:,})")
    said = f"{hard:,} open files, and [server] max_in_flight may need {needed:,}"
    advice = f"Raise LimitNOFILE= or ulimit -Hn to {needed}, or lower max_in_flight."
    judge = failed if hard < min(needed, _FILES_MIN) else warning
    return judge(GROUP, "open files", said, advice, limit=hard, needed=needed)


def _memory(config: Config) -> Check:
    server = config.server
    processes = server.workers or os.cpu_count() or 1
    buffers = server.max_buffered_bytes + server.max_sending_bytes
    needed = processes * (buffers + _PROCESS_BYTES)
    has = memory_bytes()
    said = f"{has / 1e9:.1f} GB; the server may take {needed / 1e9:.1f} GB"
    if not has:
        return ok(GROUP, "memory", "the system does not say how much there is")
    if has < needed:
        advice = "Lower [server] max_buffered_bytes or workers, or give it more."
        return warning(GROUP, "memory", said, advice, bytes=has, needed_bytes=needed)
    return ok(GROUP, "memory", said, bytes=has, needed_bytes=needed)


def memory_bytes() -> int:
    """Return the memory that this process may use: the container's where it has a limit; 0: ?."""
    found = 0
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        found = int(meminfo.read_text().split("MemTotal:")[1].split()[0]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        found = min(found or int(text), int(text))
    return found


def _zone() -> Check:
    offset = time.strftime("%z")
    if offset == "+0000":
        return ok(GROUP, "time zone", "UTC, as budgets and statements count")
    said = f"{time.strftime('%Z')} ({offset}); budgets, statements and logs count in UTC"
    return ok(GROUP, "time zone", said)


def _fonts() -> Check:
    from safelight.upstreams.proof.fonts import load_fonts  # noqa: PLC0415  (libvips: 0.2 s)

    missing = [name for name in ("manimgx-fonts", "manimgx-fonts-cjk") if not version_of(name)]
    if not load_fonts():
        said = "there are no fonts at all: words of proofs cannot be set"
        return failed(GROUP, "fonts", said, "Install the extra: pip install 'safelight[proof]'")
    if missing:
        said = f"{' and '.join(missing)} not installed: proofs use the system's fonts"
        return warning(GROUP, "fonts", said, "pip install 'safelight[proof]'")
    return ok(GROUP, "fonts", "the Noto families of the proof upstream are installed")


def version_of(package: str) -> str:
    """Return an installed package's version, empty where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _versions() -> Check:
    found = {name: version_of(name) for name in _PACKAGES}
    python = platform.python_version()
    said = f"safelight {safelight.__version__}, Python {python}, {platform.system()}"
    return ok(GROUP, "versions", said, python=python, safelight=safelight.__version__, **found)

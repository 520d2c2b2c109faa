"""A bound on the CPU time of single processes, by the kernel's control groups (Linux, root).

Owns the groups of one bench: made, filled and removed. With a fence a machine of two CPUs can say
what one of four would: each process has a core that is its own, only a slower one. Both layouts
are known: `cpu.max` of version 2 and the pair of files of version 1 (kernel documentation, "CFS
Bandwidth Control" and "Control Group v2").
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safelight.bench.errors import BenchError

PERIOD_US = 10_000
"""How often a process is given its share anew; short, so that nobody waits long for the next."""
ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
"""Where the groups of version 1 and of version 2 are, by convention."""


class Fences:
    """The groups of one bench; to be entered before processes are fenced.

    Args:
        share: of one CPU, for each process.
        root: the folder of the kernel's groups; None: where it is by convention.
    """

    def __init__(self, share: float, root: Path | None = None) -> None:
        self._quota_us = max(1000, round(share * PERIOD_US))
        self._roots = ROOTS if root is None else (root,)
        self._made: list[Path] = []

    @contextmanager
    def standing(self) -> Iterator[Fences]:
        """Remove the groups at the end; what is in them then has to have ended."""
        try:
            yield self
        finally:
            for group in self._made:
                with contextlib.suppress(OSError):  # a process in it lives: it goes with the next
                    group.rmdir()

    def fence(self, pid: int) -> None:
        """Bound the CPU time of a process and all its threads, together, to the share.

        Raises:
            BenchError: the kernel has no such groups here, or lets us make none.
        """
        try:
            group = self._make(f"safelight-bench-{os.getpid()}-{len(self._made)}")
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise BenchError(
                f"this machine lets us bound no process's CPU time ({error}): run it as root, "
                "where control groups can be written"
            ) from error

    def _make(self, name: str) -> Path:
        root = next((one for one in self._roots if _has_quota(one)), self._roots[-1])
        group = root / name
        group.mkdir()
        self._made.append(group)
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(self._quota_us))
        else:
            (group / "cpu.max").write_text(f"{self._quota_us} {PERIOD_US}")
        return group


def _has_quota(root: Path) -> bool:
    if (root / "cpu.cfs_quota_us").exists():
        return True
    with contextlib.suppress(OSError):
        return "cpu" in (root / "cgroup.subtree_control").read_text().split()
    return False

"""What is wrong with a plan, and what ends a run before its end.

Owns the shapes and their words. Faults of a plan are collected and told together, before anything
is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safelight.client.errors import BadOrder, ClientError

SHOWN_MAX = 30
"""Faults that a message names; a column that is wrong is wrong in every row."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong with a plan.

    `file` is as it was given; `line` counts from 1, 0 where the fault is of the whole file; `field`
    is the column or key, empty where none is at fault.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = self.file if not self.line else f"{self.file}:{self.line}"
        return (
            f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"
        )


class PlanFaulty(BadOrder):
    """A plan that cannot be carried out as it is; nothing was ordered.

    Args:
        faults: all that were found, in the order of the file.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in self.faults[:SHOWN_MAX]]
        if len(self.faults) > SHOWN_MAX:
            lines.append(f"... and {len(self.faults) - SHOWN_MAX} more")
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class ItemFault:
    """One thing that is wrong with an item, found when its inputs or its price were looked at."""

    item_id: str
    out: str
    field: str
    message: str


class ItemsFaulty(BadOrder):
    """Items that cannot be ordered as they are; nothing was ordered.

    Args:
        faults: all that were found, in the order of the plan.
    """

    def __init__(self, faults: Sequence[ItemFault]) -> None:
        self.faults = tuple(faults)
        lines = [f"{one.out}: {one.field}: {one.message}" for one in self.faults[:SHOWN_MAX]]
        if len(self.faults) > SHOWN_MAX:
            lines.append(f"... and {len(self.faults) - SHOWN_MAX} more")
        super().__init__("\n".join(lines))


class RunStopped(ClientError):
    """A run that ended before its end; running it again goes on where it stopped."""


class FolderBusy(ClientError):
    """Another run works in the folder."""


class FolderForeign(ClientError):
    """The journal in the folder is damaged, or of a newer release."""


class DiskFull(RunStopped):
    """The run's folder takes no more; what is under way is collected by the next start."""


class Interrupted(RunStopped):
    """Somebody stopped the run; what is under way is collected by the next start."""


class GatewayLost(RunStopped):
    """The gateway did not answer for too long; what is under way is collected later."""


class Undecidable(ClientError):
    """A decision by hand that cannot be taken; nothing was changed."""

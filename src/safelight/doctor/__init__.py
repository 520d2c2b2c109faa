"""The doctor: what stands between this installation and pictures that flow, found out by asking.

Owns the shape of what is found. Each group of checks has a module; `examining` runs them all;
`chain/` measures the proxies in front. Nothing here changes anything but probe files of its own,
and no check costs money.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """How a check ended, the best first."""

    OK = "ok"
    WARNING = "warning"
    UNCHECKED = "unchecked"
    """It could not be looked at; `found` says why."""
    FAILED = "failed"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    `found` says in one line what is so, `advice` in one line what to do, empty where nothing is.
    `facts` are the numbers behind it, for programs.
    """

    group: str
    name: str
    state: State
    found: str
    advice: str = ""
    facts: dict[str, Any] = {}


def worst(checks: Iterable[Check]) -> State:
    """Return the gravest state of some checks; OK of none."""
    order = list(State)
    return max((check.state for check in checks), key=order.index, default=State.OK)


def ok(group: str, name: str, found: str, **facts: Any) -> Check:
    """Return a check that found all well."""
    return Check(group=group, name=name, state=State.OK, found=found, facts=facts)


def warning(group: str, name: str, found: str, advice: str, **facts: Any) -> Check:
    """Return a check that found something to think about."""
    return Check(
        group=group, name=name, state=State.WARNING, found=found, advice=advice, facts=facts
    )


def failed(group: str, name: str, found: str, advice: str, **facts: Any) -> Check:
    """Return a check that found what keeps pictures from flowing."""
    return Check(
        group=group, name=name, state=State.FAILED, found=found, advice=advice, facts=facts
    )


def unchecked(group: str, name: str, found: str, advice: str = "") -> Check:
    """Return a check that could not be made."""
    return Check(group=group, name=name, state=State.UNCHECKED, found=found, advice=advice)

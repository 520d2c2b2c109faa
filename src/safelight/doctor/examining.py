"""The whole examination, group by group, whether or not a server runs.

Owns the order, and that a group which breaks off leaves the others standing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safelight.clock import Clock
from safelight.config import Config
from safelight.doctor import (
    Check,
    books,
    failed,
    folder,
    machine,
    outside,
    pictures,
    settings,
    unchecked,
    vendors,
)
from safelight.doctor.chain.measuring import Wanted, look
from safelight.doctor.chain.wire import BadAddress, Origin
from safelight.errors import SafelightError


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined.

    Args:
        config: the operator's file, None for the defaults.
        data: the data folder.
        environ: the environment that a server would have.
        chain: the way from outside, where it is to be measured.
        chain_only: whether this machine is left out: it is not the gateway's.
    """

    config: Path | None
    data: Path
    environ: Mapping[str, str] = field(repr=False)
    chain: Wanted | None = None
    chain_only: bool = False


async def examine(patient: Patient, clock: Clock) -> AsyncIterator[Check]:
    """Yield every check as it is made."""
    config: Config | None = None
    if not patient.chain_only:
        found = settings.read(patient.config, patient.data, patient.environ)
        config = found.config
        for check in settings.check(patient.config, found, patient.environ):
            yield check
        async for check in _this_machine(patient, found, clock):
            yield check
    chain = patient.chain or _public(config)
    if chain is not None:
        async for check in look(chain, clock):
            yield check


async def _this_machine(
    patient: Patient, found: settings.Read, clock: Clock
) -> AsyncIterator[Check]:
    config, data, environ = found.config, patient.data, patient.environ
    least = config.storage.min_free_bytes if config else 0
    async for check in _guarded(folder.GROUP, _each(folder.check(data, least))):
        yield check
    async for check in _guarded(books.GROUP, _each(books.check(data, environ))):
        yield check
    if config is None:
        said = "not looked at: the configuration cannot be read"
        for group in (pictures.GROUP, machine.GROUP, vendors.GROUP, outside.GROUP):
            yield unchecked(group, group, said)
        return
    without_key = {name for name, _ in found.missing}
    for group, checks in (
        (pictures.GROUP, pictures.check(config, data, environ, clock)),
        (machine.GROUP, _each(machine.check(config, clock))),
        (vendors.GROUP, vendors.check(config, without_key, clock)),
        (outside.GROUP, outside.check(config)),
    ):
        async for check in _guarded(group, checks):
            yield check


def _public(config: Config | None) -> Wanted | None:
    """Return the address of the configuration, for a quick look without a key."""
    if config is None or not config.server.public_url:
        return None
    try:
        return Wanted(Origin.parse(config.server.public_url))
    except BadAddress:
        return None


async def _each(checks: Iterable[Check]) -> AsyncIterator[Check]:
    for check in checks:
        yield check


async def _guarded(group: str, checks: AsyncIterator[Check]) -> AsyncIterator[Check]:
    """Yield a group's checks; what the system refuses to tell is one that failed."""
    try:
        async for check in checks:
            yield check
    except (OSError, SafelightError) as error:
        yield failed(group, group, f"the look broke off: {error}", "Look at the rights of files.")

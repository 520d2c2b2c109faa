"""What the commands need from outside, as seams that tests can fill.

`serve`, `keys` and `credit` work in this process; everything else speaks HTTP. The real parts are
imported only when a command needs them: `safelight --help` and the client commands start at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import typer

from safelight.admin_keys import AdminKey, Role
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.http import Patience
from safelight.config import Config
from safelight.types import Balance, BudgetState, LimitChange, Micros


class ServerInfo(Protocol):
    """What the gateway says when it is ready."""

    @property
    def url(self) -> str:
        """Its origin, without `/v1`."""

    @property
    def first_key(self) -> str | None:
        """The key made by the first start; None later."""

    @property
    def customer(self) -> str | None:
        """The customer of the first key; None later."""

    @property
    def credit_micros(self) -> Micros:
        """The first customer's credit."""

    @property
    def channels(self) -> Sequence[str]:
        """Model ids that are served."""

    @property
    def accounts(self) -> Sequence[str]:
        """Names of the accounts that serve them."""

    @property
    def recovered_jobs(self) -> int:
        """Jobs that an earlier process left and this one goes on with."""

    @property
    def operated(self) -> bool:
        """Whether anybody has an admin key."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the operator should know, one sentence each."""


class KeyInfo(Protocol):
    """A key as its operator sees it; `created_at` and `revoked_at` in milliseconds since 1970."""

    @property
    def id(self) -> str:
        """The name to revoke it by."""

    @property
    def customer(self) -> str:
        """Whose it is."""

    @property
    def name(self) -> str:
        """What it was called when it was made."""

    @property
    def created_at(self) -> int:
        """When it was made."""

    @property
    def last4(self) -> str:
        """The end of the key, to recognise it."""

    @property
    def revoked_at(self) -> int | None:
        """When it was revoked, or None."""

    @property
    def balance_micros(self) -> Micros:
        """The customer's available money."""

    @property
    def credit_line_micros(self) -> Micros:
        """How much the customer may owe."""

    @property
    def frozen_at(self) -> int | None:
        """Since when its customer cannot order, milliseconds since 1970; None: it can."""

    @property
    def requests_per_minute(self) -> int | None:
        """How fast it may ask: None by the configuration, 0 without a limit."""

    @property
    def max_in_flight(self) -> int | None:
        """How many jobs it may have open: None by the configuration, 0 without a limit."""

    @property
    def keep_alive(self) -> bool:
        """Whether plain answers to it may begin with white space."""

    @property
    def budgets(self) -> Sequence[BudgetState]:
        """What it may spend in which period."""


class Office(Protocol):
    """Customers, keys and money of one data folder, whether or not a server runs on it."""

    async def create_customer_key(
        self, name: str, credit_micros: Micros, limits: LimitChange
    ) -> str:
        """Make a key for customer `name` (made too if new), add the credit, return the key."""
        ...

    async def limit_key(self, key_id: str, change: LimitChange) -> KeyInfo:
        """Change a key's limits and return it.

        Raises:
            LookupError: no key in use has the id.
        """
        ...

    async def set_credit_line(self, customer: str, line_micros: Micros) -> Balance:
        """Let a customer owe at most so much, and return its balance.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: more than that is owed or held already.
        """
        ...

    async def list_keys(self) -> Sequence[KeyInfo]:
        """Return all keys."""
        ...

    async def set_keep_alive(self, key_id: str, *, on: bool) -> bool:
        """Let plain answers to a key begin with white space, or not; False: no such key in use."""
        ...

    async def revoke_key(self, key_id: str) -> bool:
        """End a key at once; False when there is no such key in use."""
        ...

    async def create_admin_key(self, name: str, role: Role) -> tuple[str, AdminKey]:
        """Make a key for an operator; return it and what lists show of it."""
        ...

    async def list_admin_keys(self) -> list[AdminKey]:
        """Return all keys of operators."""
        ...

    async def revoke_admin_key(self, key_id: str) -> AdminKey | None:
        """End an operator's key at once; None when there is no such key in use."""
        ...

    async def credit(self, customer: str, amount_micros: Micros, reason: str) -> Balance:
        """Add to a customer's balance (or take, if negative) and return it.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: less than that is available.
        """
        ...


OpenOffice = Callable[[Path], AbstractAsyncContextManager[Office]]
Serve = Callable[[Config, Callable[[ServerInfo], None]], int]
Work = Callable[[Config, int | None, Callable[[ServerInfo], None]], int]
LoadConfig = Callable[[Path | None, Path], Config]


def _open_office(data_dir: Path) -> AbstractAsyncContextManager[Office]:
    from safelight import office  # noqa: PLC0415 - see the module docstring

    return office.open_office(data_dir)


def _serve(config: Config, on_ready: Callable[[ServerInfo], None]) -> int:
    from safelight import supervising  # noqa: PLC0415 - see the module docstring

    count = supervising.count_of(config.server.workers)
    if count > 1:
        return supervising.supervise(config, count, on_ready=on_ready)
    from safelight import serving  # noqa: PLC0415 - a supervisor needs none of its weight

    return serving.serve(config, on_ready=on_ready)


def _work(config: Config, port: int | None, on_ready: Callable[[ServerInfo], None]) -> int:
    from safelight import serving  # noqa: PLC0415 - see the module docstring

    return serving.work(config, port=port, on_ready=on_ready)


def _load_config(path: Path | None, data_dir: Path) -> Config:
    import os  # noqa: PLC0415

    from safelight.config import load_config  # noqa: PLC0415 - see the module docstring

    return load_config(path, data_dir, environ=os.environ)


@dataclass(frozen=True)
class Services:
    """The parts; tests pass their own."""

    open_office: OpenOffice = _open_office
    serve: Serve = _serve
    work: Work = _work
    load_config: LoadConfig = _load_config
    patience: Callable[[float], Patience] = Patience


def require_books(data: Path) -> None:
    """Refuse a folder without keys and books, which a slip in --data would otherwise make there.

    Raises:
        CliError: it is no gateway's data folder (exit code 2).
    """
    from safelight.keyring import FILE_NAME  # noqa: PLC0415 - see the module docstring

    if not (data / FILE_NAME).is_file():
        missing = f"the folder {data} holds no gateway's data"
        raise CliError(
            missing if data.is_dir() else f"there is no data folder {data}",
            exit_code=ExitCode.USAGE,
            hint="Name it with --data or SAFELIGHT_DATA; `safelight serve` makes it.",
        )


def services_of(context: typer.Context) -> Services:
    """Return the parts that `main` gave to this run."""
    found = context.find_object(Services)
    assert found is not None, "main always passes Services"
    return found

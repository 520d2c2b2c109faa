"""What the operator does with customers, their keys, and the keys of operators.

Owns these verbs of the office: each is one transaction that notes who acts. Money is
`office_money`'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from safelight import admin_keys, browser_sessions, budgets, customers, ledger
from safelight.admin_keys import AdminKey, Role
from safelight.db import Database, Transaction
from safelight.errors import Conflict
from safelight.money import micros_to_dollars
from safelight.office_acting import COMMAND, Acting, Actor, Note
from safelight.types import LimitChange, Micros

UNLIMITED = LimitChange()


class OfficeCustomers(Acting):
    """Customers and keys of one data folder.

    Args:
        db: the database.
        pepper: the secret under which keys are stored.
        actor: who acts.
    """

    def __init__(self, db: Database, pepper: bytes, actor: Actor = COMMAND) -> None:
        Acting.__init__(self, db, actor)
        self._pepper = pepper

    async def create_customer_key(
        self, name: str, credit_micros: Micros, limits: LimitChange = UNLIMITED
    ) -> str:
        """Make a key for the customer `name`, whom it makes if there is none, with credit."""
        key, key_id = customers.new_key()
        new_id = new_customer_id()

        def work(tx: Transaction, note: Note) -> None:
            owner = customers.find_customer(tx, name)
            if owner is None:
                owner = new_id
                customers.create_customer(tx, customer_id=owner, name=name)
                ledger.open_balance(tx, owner)
            customers.add_key(
                tx, key=key, key_id=key_id, customer_id=owner, name=name, pepper=self._pepper
            )
            if credit_micros > 0:
                topup(tx, owner, credit_micros, "first credit", actor=self._actor)
            change_limits(tx, owner, key_id, limits)
            note.subject = owner
            note.after = f"key {key_id}, credit {micros_to_dollars(credit_micros)}"

        await self._act("key.create", name, work)
        return key

    async def create_customer(
        self, name: str, credit_micros: Micros, *, with_key: bool = False
    ) -> tuple[customers.CustomerInfo, str | None]:
        """Make a customer and return it, with the text of a first key where one is wanted.

        Raises:
            customers.NameTaken: there is one of that name.
        """
        customer_id = new_customer_id()
        key, key_id = customers.new_key()

        def work(tx: Transaction, note: Note) -> customers.CustomerInfo:
            customers.create_customer(tx, customer_id=customer_id, name=name)
            ledger.open_balance(tx, customer_id)
            if with_key:
                customers.add_key(
                    tx,
                    key=key,
                    key_id=key_id,
                    customer_id=customer_id,
                    name=name,
                    pepper=self._pepper,
                )
            if credit_micros > 0:
                topup(tx, customer_id, credit_micros, "first credit", actor=self._actor)
            note.subject = customer_id
            note.after = f"{name}, credit {micros_to_dollars(credit_micros)}"
            if with_key:
                note.after += f", key {key_id}"
            found = customers.get(tx, customer_id)
            assert found is not None
            return found

        made = await self._act("customer.create", name, work)
        return made, key if with_key else None

    async def rename(self, customer_id: str, name: str) -> customers.CustomerInfo:
        """Give a customer another name.

        Raises:
            LookupError: no such customer.
            customers.NameTaken: there is one of that name.
        """

        def work(tx: Transaction, note: Note) -> customers.CustomerInfo:
            note.before = customers.name_of(tx, customer_id) or ""
            customers.rename(tx, customer_id, name)
            note.after = name
            found = customers.get(tx, customer_id)
            assert found is not None
            return found

        return await self._act("customer.rename", customer_id, work)

    async def add_key(
        self, customer_id: str, name: str, limits: LimitChange = UNLIMITED
    ) -> tuple[str, customers.KeyInfo]:
        """Make another key of a customer and return its text, and what lists show of it.

        Raises:
            LookupError: no such customer.
        """
        key, key_id = customers.new_key()

        def work(tx: Transaction, note: Note) -> customers.KeyInfo:
            ledger.balance(tx, customer_id)
            customers.add_key(
                tx, key=key, key_id=key_id, customer_id=customer_id, name=name, pepper=self._pepper
            )
            change_limits(tx, customer_id, key_id, limits)
            note.after = f"key {key_id}, {name}"
            return key_with_budgets(tx, key_id)

        return key, await self._act("key.create", customer_id, work)

    async def list_keys(self) -> list[customers.KeyInfo]:
        """Return every key with its limits, oldest first."""
        return await self._db.read(_keys)

    async def limit_key(self, key_id: str, change: LimitChange) -> customers.KeyInfo:
        """Change the limits of a key and return it; orders in flight are not touched.

        Raises:
            LookupError: no key in use has the id.
        """

        def work(tx: Transaction, note: Note) -> customers.KeyInfo:
            customer_id = _owner_of(tx, key_id)
            before = key_with_budgets(tx, key_id)
            change_limits(tx, customer_id, key_id, change)
            found = key_with_budgets(tx, key_id)
            note.before, note.after = _limit_words(before), _limit_words(found)
            return found

        return await self._act("key.limit", key_id, work)

    async def set_keep_alive(self, key_id: str, *, on: bool) -> bool:
        """Say whether plain answers to a key may begin with white space; False: no such key."""

        def work(tx: Transaction, note: Note) -> None:
            if not customers.set_keep_alive(tx, key_id, on=on):
                raise _no_key(key_id)
            note.after = f"keep-alive {'on' if on else 'off'}"

        return await self._found("key.keep_alive", key_id, work)

    async def revoke_key(self, key_id: str) -> bool:
        """End a key, and with it its sessions; False when there is no such key in use."""

        def work(tx: Transaction, note: Note) -> None:
            if not customers.revoke_key(tx, key_id):
                raise _no_key(key_id)
            note.before, note.after = "in use", "revoked"

        return await self._found("key.revoke", key_id, work)

    # --- keys of operators ---------------------------------------------------------------------

    async def create_admin_key(self, name: str, role: Role) -> tuple[str, AdminKey]:
        """Make a key for an operator; return it and what lists show of it."""
        key, key_id = admin_keys.new_key()

        def work(tx: Transaction, note: Note) -> AdminKey:
            admin_keys.add(tx, key=key, key_id=key_id, name=name, role=role, pepper=self._pepper)
            note.after = f"{name}, {role}"
            found = admin_keys.get(tx, key_id)
            assert found is not None
            return found

        return key, await self._act("admin_key.create", key_id, work)

    async def list_admin_keys(self) -> list[AdminKey]:
        """Return every admin key, oldest first."""
        return await self._db.read(admin_keys.all_keys)

    async def revoke_admin_key(self, key_id: str, *, keep_owner: bool = False) -> AdminKey | None:
        """End an admin key, and with it its sessions; None when there is no such key in use.

        Args:
            key_id: which.
            keep_owner: whether the last owner's key stays.

        Raises:
            Conflict: it is the last owner's, and that shall stay.
        """

        def work(tx: Transaction, note: Note) -> AdminKey:
            found = admin_keys.get(tx, key_id)
            if found is not None and found.role is Role.OWNER and keep_owner:
                _keep_owner(tx, key_id)
            if found is None or not admin_keys.revoke(tx, key_id):
                raise _no_key(key_id)
            note.before, note.after = f"in use, {found.name}, {found.role}", "revoked"
            return msgspec.structs.replace(found, revoked_at=tx.now_ms)

        try:
            return await self._act("admin_key.revoke", key_id, work)
        except LookupError:
            return None

    async def end_session(self, session_id: str) -> bool:
        """End a browser's session; False when there is none."""

        def work(tx: Transaction, note: Note) -> None:
            if not browser_sessions.end(tx, session_id):
                raise LookupError(f"no open session has the id {session_id!r}")
            note.before, note.after = "open", "ended"

        return await self._found("session.end", session_id, work)

    async def _found(
        self, act: str, subject: str, work: Callable[[Transaction, Note], None]
    ) -> bool:
        try:
            await self._act(act, subject, work)
        except LookupError:
            return False
        return True


def _keep_owner(tx: Transaction, key_id: str) -> None:
    if not admin_keys.other_owner(tx, key_id):
        raise Conflict(
            "This is the last owner's key, and without one nobody makes keys over HTTP. Make "
            "another owner first; the command 'safelight admin keys revoke' ends this one too.",
            code="last_owner",
            param="id",
        )


def new_customer_id() -> str:
    """Return a new id of a customer."""
    return f"cus_{secrets.token_hex(8)}"


def topup(
    tx: Transaction, customer_id: str, amount_micros: Micros, reason: str, *, actor: Actor
) -> None:
    """Add to a customer's balance in an actor's name."""
    ledger.topup(
        tx,
        transfer_id=f"tr_{secrets.token_hex(12)}",
        customer_id=customer_id,
        amount_micros=amount_micros,
        actor=actor.id,
        reason=reason,
    )


def change_limits(tx: Transaction, customer_id: str, key_id: str, change: LimitChange) -> None:
    """Change what a key may spend and how fast it may ask."""
    customers.change_limits(tx, key_id, change)
    if change.budgets:
        ledger.hold_still(tx, customer_id)
    for period, limit_micros in change.budgets.items():
        if limit_micros is None:
            budgets.remove(tx, key_id=key_id, period=period)
        else:
            budgets.put(tx, key_id=key_id, period=period, limit_micros=limit_micros)


def key_with_budgets(tx: Transaction, key_id: str) -> customers.KeyInfo:
    """Return a key with its budgets.

    Raises:
        LookupError: no key has the id.
    """
    found = customers.get_key(tx, key_id)
    if found is None:
        raise _no_key(key_id)
    return msgspec.structs.replace(found, budgets=budgets.states(tx, key_id))


def _keys(tx: Transaction) -> list[customers.KeyInfo]:
    states = budgets.all_states(tx)
    return [
        msgspec.structs.replace(key, budgets=states.get(key.id, ()))
        for key in customers.list_keys(tx)
    ]


def _owner_of(tx: Transaction, key_id: str) -> str:
    customer_id = customers.customer_of_key(tx, key_id)
    if customer_id is None:
        raise _no_key(key_id)
    return customer_id


def _no_key(key_id: str) -> LookupError:
    return LookupError(f"no key in use has the id {key_id!r}")


def _limit_words(key: customers.KeyInfo) -> str:
    rules = [
        f"{name} {'default' if value is None else value or 'none'}"
        for name, value in (
            ("requests a minute", key.requests_per_minute),
            ("in flight", key.max_in_flight),
        )
    ]
    return ", ".join(
        [*rules, *(f"{one.period} {micros_to_dollars(one.limit_micros)}" for one in key.budgets)]
    )

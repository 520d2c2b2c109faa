"""The operator's verbs on limits: what they set is what keys are held to and lists show."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight import customers, ledger
from safelight.office import Office, open_office
from safelight.types import LimitChange


async def the_key(office: Office) -> customers.KeyInfo:
    (key,) = await office.list_keys()
    return key


async def test_a_key_is_made_with_limits_and_changed_later(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        limits = LimitChange(
            requests_per_minute=60, max_in_flight=20, budgets={"day": 5_000_000, "total": 9_000_000}
        )
        await office.create_customer_key("acme", 0, limits)
        key = await the_key(office)
        assert (key.requests_per_minute, key.max_in_flight) == (60, 20)
        assert [(one.period, one.limit_micros) for one in key.budgets] == [
            ("day", 5_000_000),
            ("total", 9_000_000),
        ]
        change = LimitChange(max_in_flight=None, budgets={"day": None, "month": 7_000_000})
        changed = await office.limit_key(key.id, change)
        assert changed == await the_key(office)
        assert (changed.requests_per_minute, changed.max_in_flight) == (60, None)
        assert [one.period for one in changed.budgets] == ["month", "total"]


async def test_a_key_without_a_word_has_no_limits_of_its_own(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        await office.create_customer_key("acme", 1_000_000)
        key = await the_key(office)
        assert (key.requests_per_minute, key.max_in_flight, key.budgets) == (None, None, ())
        assert (key.balance_micros, key.credit_line_micros) == (1_000_000, 0)


async def test_a_key_that_is_not_in_use_has_no_limits_to_change(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        await office.create_customer_key("acme", 0)
        key = await the_key(office)
        await office.revoke_key(key.id)
        for key_id in (key.id, "nobody"):
            with pytest.raises(LookupError, match="no key in use"):
                await office.limit_key(key_id, LimitChange(requests_per_minute=1))


async def test_a_credit_line_may_not_go_above_what_is_owed(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        await office.create_customer_key("acme", 0)
        balance = await office.set_credit_line("acme", 50_000_000)
        assert (balance.available_micros, balance.credit_line_micros) == (0, 50_000_000)
        assert (await the_key(office)).credit_line_micros == 50_000_000
        await office.credit("acme", -20_000_000, "an old debt")
        with pytest.raises(ledger.WouldOverdraw):
            await office.set_credit_line("acme", 19_999_999)
        assert (await office.set_credit_line("acme", 20_000_000)).credit_line_micros == 20_000_000
        with pytest.raises(LookupError):
            await office.set_credit_line("nobody", 0)


async def test_a_key_is_kept_alive_when_the_operator_says_so(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        await office.create_customer_key("acme", 0)
        key = await the_key(office)
        assert not key.keep_alive
        assert await office.set_keep_alive(key.id, on=True)
        assert (await the_key(office)).keep_alive
        assert await office.set_keep_alive(key.id, on=False)
        assert not (await the_key(office)).keep_alive
        await office.revoke_key(key.id)
        assert not await office.set_keep_alive(key.id, on=True)

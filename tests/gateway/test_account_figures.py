"""The figures of accounts beside the books they come from: made by a whole gateway, they add up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.house import VIP, House, account
from safelight import accounts
from safelight.cli import main
from safelight.db.address import DATABASE_FILE
from safelight.errors import FaultClass, UpstreamError
from safelight.keyring import Keyring


def fault(kind: FaultClass, *, sold: bool | None = False) -> UpstreamError:
    return UpstreamError(kind, "upstream_error", "It failed.", sold=sold)


@pytest.mark.parametrize("books", ["sqlite"], indirect=True)  # the command opens the folder's file
async def test_delivered_pictures_and_revenue_are_those_of_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever failed on the way: sums over accounts are the settled jobs and their prices."""
    pool = (account("a", image_cost_micros=9_000), account("b", image_cost_micros=9_000))
    house = await House(tmp_path, accounts=pool).open()
    house.upstream.steps = [
        None,
        fault(FaultClass.FAST),
        None,
        "64x64",
        None,
        fault(FaultClass.SLOW, sold=True),
        None,
        fault(FaultClass.CLIENT),
    ]
    for number in range(5):
        await house.buy(f"lamp {number}")
    await house.buy("a lamp at another price", channel="gpt-image-2-all", size="1024x1024")
    book = await house.db.read(lambda tx: accounts.read(tx, since_s=None))
    whole = accounts.total(book.tallies.values())
    settled = [line for line in await house.statement() if line.kind == "settle"]
    assert whole.delivered == len(settled) == 5
    assert whole.revenue_micros == -sum(line.amount_micros for line in settled)
    assert whole.attempts == len(house.upstream.calls)
    assert house.upstream.sold == whole.delivered + whole.waste_sold
    assert whole.waste_sold == await house.waste() == 2
    assert whole.faults == {"fast": 1, "bad_output": 1, "slow": 1, "client": 1}
    assert whole.open == 0
    # The delivered pictures and the one of a wrong size; the one that broke off has no cost.
    assert (whole.cost_micros, whole.uncosted_waste) == (6 * 9_000, 1)
    assert whole == accounts.total(map(book.of_account, ("a", "b")))
    assert whole == accounts.total(map(book.of_channel, (VIP, "gpt-image-2-all")))
    await house.close()

    (tmp_path / "t.db").rename(tmp_path / DATABASE_FILE)
    Keyring.load_or_create(tmp_path)
    argv = ["accounts", "--data", str(tmp_path), "--since", "1h", "--json"]
    assert await asyncio.to_thread(main, argv) == 0
    page = msgspec.json.decode(capsys.readouterr().out)
    assert page["total"]["delivered"] == sum(row["delivered"] for row in page["data"]) == 5
    assert page["total"]["revenue_micros"] == whole.revenue_micros

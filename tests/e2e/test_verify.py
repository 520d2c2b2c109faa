"""A frozen customer over HTTP: refused with 403, its retries collect what was ordered before."""

from __future__ import annotations

from pathlib import Path

from e2e.in_process import InProcess, running
from safelight.office import Office

ROUTE = "/v1/images/generations"
BODY = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}


async def _order(gateway: InProcess) -> tuple[int, dict[str, str], dict[str, dict[str, object]]]:
    answer = await gateway.ask("POST", ROUTE, BODY)
    return answer.status, answer.headers, answer.json()


async def test_a_finding_stops_orders_until_an_operator_has_looked(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        assert (await _order(gateway))[0] == 200
        await gateway.app.db.write(
            lambda tx: tx.execute("UPDATE balance SET posted_micros = posted_micros + 1")
        )
        gateway.clock.advance(300)
        await gateway.app.auditor.round()

        status, headers, body = await _order(gateway)
        assert status == 403
        assert body["error"]["code"] == "customer_frozen"
        assert body["error"]["type"] == "permission_error"
        assert headers["x-should-retry"] == "false"
        balance = (await gateway.ask("GET", "/v1/billing/balance")).json()
        assert balance["held_micros"] == 0

        office = Office(gateway.app.db, gateway.app.keyring, gateway.app.store)
        assert (await office.unfreeze("team", "looked into"))[0]
        assert (await _order(gateway))[0] == 200
        assert await office.audit() == []

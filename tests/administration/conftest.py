"""A whole application in this process, and an operator of each role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.in_process import Answer, InProcess, running
from safelight.admin_keys import Role
from safelight.office import Office

BASE = "/admin/v1"
ORDER = {"model": "gpt-image-2-vip", "prompt": "a lamp on a table", "size": "1024x1024"}


class Desk:
    """Operators before one application; `customer` is the id of the one whose key is there."""

    def __init__(self, gateway: InProcess, keys: dict[Role, str], customer: str) -> None:
        self.gateway = gateway
        self.keys = keys
        self.customer = customer

    async def answer(
        self, method: str, path: str, body: Any = None, *, role: Role = Role.OPERATOR
    ) -> Answer:
        """Call an operators' route."""
        return await self.gateway.ask(method, BASE + path, body, key=self.keys[role])

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Call one and return its JSON."""
        answer = await self.answer(method, path, body)
        assert answer.status == status, answer.body
        return answer.json()

    async def refused(self, method: str, path: str, body: Any = None, *, status: int) -> str:
        """Call one that is refused, and return the error's code."""
        found = await self.ask(method, path, body, status=status)
        assert set(found) == {"error"}
        assert found["error"]["message"].endswith((".", ")", "NAME"))
        code: str = found["error"]["code"]
        return code

    async def order(self, prompt: str = "a lamp on a table", **more: Any) -> str:
        """Have the customer buy a picture; return the job's id."""
        made = await self.gateway.ask(
            "POST", "/v1/images/generations", {**ORDER, "prompt": prompt, **more}
        )
        assert made.status == 200, made.body
        return made.headers["x-safelight-job-id"]

    async def acts(self) -> list[dict[str, Any]]:
        """Return what was done, newest first."""
        found: list[dict[str, Any]] = (await self.ask("GET", "/audit?limit=200"))["data"]
        return found


async def desk_of(gateway: InProcess) -> Desk:
    """Make an operator of each role."""
    office = Office(gateway.app.db, gateway.app.keyring)
    keys = {role: (await office.create_admin_key(f"{role} Ada", role))[0] for role in Role}
    (key,) = await office.list_keys()
    return Desk(gateway, keys, key.customer_id)


@pytest.fixture
async def desk(tmp_path: Path, database_url_seldom: str) -> AsyncIterator[Desk]:
    async with running(tmp_path, books=database_url_seldom) as gateway:
        yield await desk_of(gateway)

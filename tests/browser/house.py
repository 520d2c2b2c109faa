"""A gateway with somebody to operate it, as the console's tests find it.

Owns the accounts, the owner's key and what operators ask over HTTP beside the browser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from e2e.process import GatewayProcess

ACCOUNTS = "".join(
    f'[[accounts]]\nname = "{name}"\nupstream = "proof"\n'
    f'group = "{group}"\nimages_per_minute = 60\n'
    for name, group in (("project-a", "org-1"), ("project-b", "org-1"), ("spare", "org-2"))
)


@dataclass(frozen=True)
class House:
    """A running gateway and the keys to it."""

    gateway: GatewayProcess
    owner: str
    """An admin key."""
    customer: str
    """A customer's key, with money."""

    @property
    def url(self) -> str:
        """Where it is."""
        return self.gateway.url

    def ask(self, path: str, method: str = "GET") -> Any:
        """Return what a route of operators answers."""
        asked = Request(
            self.url + path, method=method, headers={"authorization": f"Bearer {self.owner}"}
        )
        with urlopen(asked, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextmanager
def opened_house(folder: Path, config: str = ACCOUNTS, **environ: str) -> Iterator[House]:
    """Run a gateway, and make its owner a key as operators do."""
    gateway = GatewayProcess(folder, config, environ=environ)
    with gateway:
        owner = gateway.command("admin", "keys", "create", "Ada", "--role", "owner").strip()
        assert gateway.first_key is not None
        yield House(gateway, owner, gateway.first_key)
        assert gateway.stop() == 0

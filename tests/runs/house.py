"""What tests of runs work with: a gateway, its upstream, a client, plans, and the two books."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.process import GatewayProcess
from safelight.bench.faults.server import FaultUpstream, Seen
from safelight.client.gates import Gate, Verdict
from safelight.client.orders import DEFAULT_MODEL, Order
from safelight.client.runs import Finished, Identities, Item, Plan, Settings

QUICK = Settings(pause_s=0.01, least_free_bytes=0)
"""Bounds of a run on a machine for tests."""


DIRECT = "gpt-image-2"
"""A channel on which failures reach the caller at once."""


@dataclass(frozen=True)
class Site:
    """A gateway and its upstream."""

    gateway: GatewayProcess
    upstream: FaultUpstream

    @property
    def first_key(self) -> str:
        """The key of the customer with credit."""
        assert self.gateway.first_key is not None
        return self.gateway.first_key


class House:
    """A gateway, of which one customer sees what happens from now on.

    Args:
        site: the gateway.
        folder: where the test works.
        key: whose.
    """

    def __init__(self, site: Site, folder: Path, key: str) -> None:
        self.site = site
        self.folder = folder
        self.key = key
        self.upstream = site.upstream
        self.url = site.gateway.base_url
        self._sold = len(site.upstream.sales)
        self._asked = len(site.upstream.requests)
        self._before = dict(self._charges())

    @property
    def own_environ(self) -> dict[str, str]:
        """What a command that uses this gateway finds in its environment."""
        return {"SAFELIGHT_URL": self.url, "SAFELIGHT_API_KEY": self.key, "COLUMNS": "200"}

    @property
    def sold(self) -> int:
        """How many pictures the upstream has sold."""
        return len(self.upstream.sales) - self._sold

    @property
    def asked(self) -> list[Seen]:
        """What the upstream was asked."""
        return self.upstream.requests[self._asked :]

    def charges(self) -> dict[str, tuple[int, str]]:
        """Return what the statement says was charged: by job, the amount and the digest."""
        return {job: charge for job, charge in self._charges() if job not in self._before}

    def _charges(self) -> Iterator[tuple[str, tuple[int, str]]]:
        with urllib.request.urlopen(self._request("/billing/statement?format=csv")) as answer:
            for line in csv.DictReader(io.TextIOWrapper(answer, newline="")):
                if line["kind"] == "settle" and line["amount_micros"] != "0":
                    yield line["job_id"], (-int(line["amount_micros"]), line["image_sha256"])

    def delete(self, path: str) -> None:
        """Delete something at the gateway."""
        urllib.request.urlopen(self._request(path, "DELETE")).close()

    def _request(self, path: str, method: str = "GET") -> urllib.request.Request:
        headers = {"Authorization": f"Bearer {self.key}"}
        return urllib.request.Request(self.url + path, headers=headers, method=method)

    def agree(self, out: Path) -> int:
        """Hold the run's manifest against the statement, line by line; return their number."""
        charged = self.charges()
        told = {
            row["job_id"]: (int(row["charge_micros"]), row["sha256"])
            for row in manifest_lines(out)
            if int(row["charge_micros"])
        }
        assert told == charged
        return len(charged)

    def started(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start `safelight run` as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "safelight", "run", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.own_environ},
            cwd=self.folder,
            **more,
        )

    def wait_for_requests(self, count: int) -> None:
        """Wait until the upstream has got so many."""
        until = time.monotonic() + 60
        while len(self.asked) < count:
            assert time.monotonic() < until
            pause(0.01)


class Choosy:
    """A gate that rejects pictures of some prompts, or so many of the first ones it sees."""

    name = "choosy"

    def __init__(self, rejections: int) -> None:
        self.rejections = rejections
        self.asked = 0

    def check(self, picture: Path) -> Verdict:
        """Reject the first ones."""
        self.asked += 1
        passed = self.asked > self.rejections
        return Verdict(self.name, passed, f"number {self.asked}", {"size": picture.stat().st_size})


def plan_of(
    *prompts: str, gates: Sequence[Gate] = (), finish: Any = None, model: str = DEFAULT_MODEL
) -> Plan:
    """Return a plan with one item for each prompt, in files a, b, c ..."""
    ids = Identities()
    items = []
    for number, prompt in enumerate(prompts):
        order = Order(prompt, model=model, size="1024x1024")
        items.append(Item(ids.of(order), order, chr(ord("a") + number), tuple(gates)))
    return Plan("plan", tuple(items), finish or nothing)


def nothing(_finished: Finished) -> Sequence[Path]:
    """Make nothing of a run."""
    return ()


def manifest(out: Path) -> dict[str, Any]:
    """Return the manifest of a run's folder."""
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def manifest_lines(out: Path) -> list[dict[str, str]]:
    """Return the lines of the manifest's table."""
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pause(seconds: float) -> None:
    """Let time pass in a process that others wait for."""
    time.sleep(seconds)

"""The same order posted many times at one moment, under one Idempotency-Key; then all is counted.

Each key has a body of its own. Its posts go to all the processes in turn, over real connections,
all keys at once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import resource
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream

PRICE = 30_000
CREDIT = "100.00"
TRIES = 20


@dataclass(frozen=True)
class Got:
    """What one post was answered with."""

    job_id: str
    digest: str


@dataclass
class Report:
    """What a storm counted."""

    keys: int
    posts: int
    processes: int
    sales: int = 0
    charges: int = 0
    refused: int = 0
    """Posts of another body under a key that is taken: 422."""
    repeats: int = 0
    """Posts that were sent away with 503 and came again."""
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.keys} keys x {self.posts} posts at once to {self.processes} process(es): "
            f"{self.sales} sales, {self.charges} charges, {self.keys * self.posts} equal answers, "
            f"{self.refused} other bodies refused, {self.repeats} repeats, {self.seconds:.1f} s"
        )


def run(
    folder: Path,
    *,
    keys: int,
    posts: int,
    processes: int = 1,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Run a storm and check that each key is one sale, one charge and one picture."""
    _allow_connections(keys * posts + 200)
    report = Report(keys, posts, processes)
    begin = time.monotonic()
    with FaultUpstream.in_thread(latency_s=0.5) as upstream, ExitStack() as stack:
        first = GatewayProcess(folder / "0", accounts(upstream.base_url, 4), environ=environ)
        others = [first.beside(folder / str(number)) for number in range(1, processes)]
        api_key = first.key(credit=CREDIT)
        gateways = [stack.enter_context(one) for one in (first, *others)]
        got = asyncio.run(_storm(gateways, api_key, report))
        balance = check_sums(first.url, api_key)
        lines = [line for line in statement(first.url, api_key) if line["kind"] == "settle"]
        report.sales, report.charges = len(upstream.sales), len(lines)
        assert [one.stop() for one in gateways] == [0] * processes
        one_each = {next(iter(set(answers))) for answers in got.values()}
        assert all(len(set(answers)) == 1 for answers in got.values()), "a key has two answers"
        assert sum(map(len, got.values())) == keys * posts
        assert {one.job_id: one.digest for one in one_each} == {
            line["job_id"]: line["image_sha256"] for line in lines
        }
        assert {one.digest for one in one_each} == {sale.sha256 for sale in upstream.sales}
        assert report.sales == report.charges == len(one_each) == report.refused == keys
        assert balance["held_micros"] == 0
        assert balance["posted_micros"] == 100_000_000 - keys * PRICE
    assert witness(first.data, first.environ).faults == []
    report.seconds = time.monotonic() - begin
    return report


async def _storm(
    gateways: Sequence[GatewayProcess], api_key: str, report: Report
) -> dict[str, list[Got]]:
    got: defaultdict[str, list[Got]] = defaultdict(list)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(180),
        headers={"Authorization": f"Bearer {api_key}"},
    ) as http:

        async def ask(gateway: GatewayProcess, key: str, prompt: str) -> tuple[int, Any, str]:
            for _ in range(TRIES):
                answer = await _post(http, gateway, key, prompt=prompt)
                if answer[0] != 503:  # two processes on one file: whoever waits long is sent away
                    break
                report.repeats += 1
            return answer

        async def post(key: str, place: int) -> None:
            gateway = gateways[place % len(gateways)]
            status, body, job_id = await ask(gateway, key, f"order {key}")
            assert status == 200, (status, body)
            picture = base64.b64decode(body["data"][0]["b64_json"])
            got[key].append(Got(job_id, hashlib.sha256(picture).hexdigest()))

        async def another(key: str, place: int) -> None:
            gateway = gateways[place % len(gateways)]
            status, body, _ = await ask(gateway, key, "something else")
            assert (status, body["error"]["code"]) == (422, "idempotency_key_reused"), body
            report.refused += 1

        keys = [f"key-{number}" for number in range(report.keys)]
        await asyncio.gather(*(post(key, place) for place in range(report.posts) for key in keys))
        await asyncio.gather(*(another(key, place) for place, key in enumerate(keys)))
    return got


async def _post(
    http: aiohttp.ClientSession, gateway: GatewayProcess, key: str, *, prompt: str
) -> tuple[int, Any, str]:
    async with http.post(
        f"{gateway.base_url}/images/generations",
        json={"model": "gpt-image-2-vip", "prompt": prompt, "size": "1280x720"},
        headers={"Idempotency-Key": key},
    ) as answer:
        return answer.status, await answer.json(), answer.headers.get("x-safelight-job-id", "")


def _allow_connections(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard < 0 else min(count, hard), hard))

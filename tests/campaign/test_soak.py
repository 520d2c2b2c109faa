"""Hours of load in minutes: memory, open files and threads of a server stay where they are.

What grows with each order is found by counting orders, not hours: two hours at two orders a second
are fourteen thousand, which one process works off in minutes when the upstream answers at once.
"""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest

from e2e.books import check_sums, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream, Seen

SECONDS = float(os.environ.get("SOAK_S", "240"))
CALLERS = 8
WARM_SHARE = 0.3
"""What comes before is warming up: caches of databases fill, connections open."""
GROWTH_MB = 24.0
"""Most growth of the resident memory after it, between the medians of first and last third. The
writer's page cache, 32 MB at most, takes more than ten thousand orders to fill."""


@dataclass(frozen=True)
class Sample:
    """What a process has at one moment."""

    orders: int
    megabytes: float
    files: int
    threads: int


def sample(pid: int, orders: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return Sample(
        orders,
        int(found[1]) / 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
    )


def some_fail(seen: Seen) -> dict[str, object]:
    """Of twenty calls one fails, one is refused, one never ends: ends of all kinds are soaked."""
    kinds = {3: {"kind": "status", "status": 500}, 11: {"kind": "status", "status": 503}}
    return kinds.get(seen.number % 20, {"kind": "ok"})


def buy(gateway: GatewayProcess, key: str, number: int, until: float) -> int:
    """Order again and again over one connection; every tenth answer is read by its link."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    done = 0
    while time.monotonic() < until:
        order = {
            "model": "gpt-image-2-vip",
            "prompt": f"caller {number}, order {done}",
            "size": "1280x720" if done % 2 else "1024x1024",
            "response_format": "url" if done % 10 == 0 else "b64_json",
        }
        connection.request(
            "POST",
            "/v1/images/generations",
            body=msgspec.json.encode(order),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        answer = connection.getresponse()
        body = msgspec.json.decode(answer.read())
        assert answer.status == 200, body
        if answer.status == 200:
            done += 1
            if url := body["data"][0].get("url"):
                connection.request("GET", url[url.index("/i/") :])
                assert connection.getresponse().read()[:4] == b"\x89PNG"
    connection.close()
    return done


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.campaign
def test_nothing_grows_with_the_orders(tmp_path: Path) -> None:
    """After warming up memory is flat, and so are open files and threads."""
    samples: list[Sample] = []
    config = "[storage]\nmin_free_bytes = 0\n[retention]\nimages_s = 60\n"
    with (
        FaultUpstream.in_thread(some_fail) as upstream,
        GatewayProcess(tmp_path, config + accounts(upstream.base_url, 4)) as gateway,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        assert gateway.process is not None
        pid = gateway.process.pid
        key = gateway.key("soaked", "1000000.00")
        until = time.monotonic() + SECONDS
        running = [callers.submit(buy, gateway, key, number, until) for number in range(CALLERS)]
        while time.monotonic() < until:
            # A caller's own end is what is waited for; none comes before the time is over.
            with pytest.raises(TimeoutError):
                running[0].result(timeout=max(0.01, min(SECONDS / 60, until - time.monotonic())))
            samples.append(sample(pid, len(upstream.sales)))
        orders = sum(one.result(60) for one in running)
        check_sums(gateway.url, key)
        assert gateway.stop() == 0
    books = witness(gateway.data)
    assert books.faults == []
    steady = samples[int(len(samples) * WARM_SHARE) :]
    third = len(steady) // 3
    before, after = steady[:third], steady[-third:]
    grown = median([one.megabytes for one in after]) - median([one.megabytes for one in before])
    print(
        f"\n{orders} orders in {SECONDS:.0f} s; memory {samples[0].megabytes:.0f} MB at first, "
        f"{before[0].megabytes:.0f} warm, {after[-1].megabytes:.0f} at the end ({grown:+.1f}); "
        f"files {min(one.files for one in steady)} to {max(one.files for one in steady)}; "
        f"threads {min(one.threads for one in steady)} to {max(one.threads for one in steady)}"
    )
    assert orders > 10 * SECONDS / CALLERS
    assert grown < GROWTH_MB
    assert max(one.files for one in after) <= max(one.files for one in before) + 10
    assert max(one.threads for one in after) <= max(one.threads for one in before) + 2

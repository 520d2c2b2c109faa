"""Dying at each named point, and what must be true afterwards.

Owns the table of expected ends (docs/ledger.md, "After a crash") and the run of one of its rows:
an order, the death, a start without it, the client's repeat, and the count of everything. The
witness of what was bought is the fault upstream.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from standardwebhooks import Webhook

from e2e.books import check_sums, rows, statement, witness
from e2e.crashing import FUSE_AT_WORK
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.script import Act
from safelight.bench.faults.server import FaultUpstream, Seen
from stub_gateway import Asked, StubGateway, json_answer, stub_gateway

PRICE = 30_000
PADDING = 800_000
"""Extra bytes of each picture: more than the buffers between upstream, disk and caller."""
SLOW_S, STALL_S = 0.3, 5.0
TOLD_S = 60.0
"""How long a message may take: a lost reminder is given again by the next look."""
RECEIVERS = """
[webhooks]
allow_http = true
allow_networks = ["127.0.0.1/32"]
"""


class End(NamedTuple):
    """What a crash at a point leaves behind when all is done."""

    sales: int
    """Pictures the upstream sold for the order."""
    attempts: tuple[str, ...]
    """How the job's attempts ended, in order."""
    taken_over: bool = True
    """Whether the next start finds an open job."""
    adopted: bool = False
    """Whether the next start finds the bought picture, so that nothing more is asked for."""
    charged: bool = True


_BOUGHT_TWICE = End(2, ("lost", "ok"))
_ADOPTED = End(1, ("ok",), adopted=True)
_SETTLED = End(1, ("ok",), taken_over=False)
EXPECTED: Mapping[str, End] = {
    "K0": End(1, ("ok",), taken_over=False),
    "K1": End(1, ("ok",)),
    "K2": End(1, ("lost", "ok")),
    "K3": _BOUGHT_TWICE,
    "K4": _BOUGHT_TWICE,
    "K5": _ADOPTED,
    "K5-received": _ADOPTED,
    "K5-kept": _ADOPTED,
    "K6": _ADOPTED,
    "K7": _SETTLED,
    "K7-head": _SETTLED,
    "K8": _SETTLED,
    "K9": _SETTLED,
    "release": End(0, ("client", "client"), charged=False),
    "released": End(0, ("client",), taken_over=False, charged=False),
}
REMADE_AT = "K5-received"
REMADE_SIZE = "1820x1024"
"""No upstream makes it: a larger picture is bought and cropped."""
AFTER_THE_ANSWER = frozenset({"K9"})
"""Where the caller may have his picture already."""
_JOURNAL = {"ok": ("ok", 1, 1), "lost": ("lost", None, 0), "client": ("client", 0, 0)}
"""Outcome, whether the upstream has billed it, whether its picture is the customer's."""


@dataclass
class Answer:
    """What the caller got; without a status the connection broke."""

    status: int | None = None
    job_id: str = ""
    body: Any = None

    @property
    def digest(self) -> str:
        picture = base64.b64decode(self.body["data"][0]["b64_json"])
        return hashlib.sha256(picture).hexdigest()


class Vendor:
    """The fault upstream's script: the first call of an order meets what its point needs.

    Args:
        at_work: the file by which the gateway's process learns that its call has come.
    """

    upstream: FaultUpstream

    def __init__(self, at_work: Path) -> None:
        self._at_work = at_work
        self.point = ""
        self._first = True

    def play(self, point: str) -> None:
        """Prepare for the order that dies at `point`."""
        self.point, self._first = point, True

    def act(self, _seen: Seen) -> Act:
        """Choose the answer to a call."""
        first, self._first = self._first, False
        if not EXPECTED[self.point].charged:
            return "moderation"
        match self.point:
            case "K3" if first:
                self._at_work.touch()
                return {"kind": "ok", "latency_s": SLOW_S}
            case "K4" if first:
                return {"kind": "stall_body", "seconds": STALL_S, "padding": PADDING}
        self._at_work.unlink(missing_ok=True)
        return {"kind": "ok", "padding": PADDING}


class Bench:
    """A gateway that dies on demand, its upstream, and one customer."""

    def __init__(
        self, gateway: GatewayProcess, fuse: Path, vendor: Vendor, receiver: StubGateway
    ) -> None:
        self.gateway = gateway
        self.upstream = vendor.upstream
        self.receiver = receiver
        self.key = ""
        self._vendor = vendor
        self._fuse = fuse
        self._numbers = itertools.count(1)
        self._charges = 0
        self.unknown = 0
        """Calls of which nobody can say whether they were billed, until now."""

    def crash(self, point: str, *, with_key: bool) -> float:
        """Die at `point` once and check what follows; return the seconds it took.

        Args:
            point: a name in `POINTS`.
            with_key: repeat by an Idempotency-Key, instead of the SDK's retry count alone.
        """
        begin = time.monotonic()
        # Without a key the repeat of an order that was delivered is another order.
        with_key = with_key or point in AFTER_THE_ANSWER
        prompt = f"order {next(self._numbers)}"
        self._vendor.play(point)
        self._fuse.write_text(point)
        requests_before, repeats = self._count("request"), self._repeats()
        broken = self._order(prompt, retry=0, with_key=with_key)
        if point not in AFTER_THE_ANSWER:
            assert broken.status is None, f"the process did not die at {point}: {broken}"
        assert self.gateway.died() == -9
        assert not self._fuse.exists()
        self.gateway.start()
        end = EXPECTED[point]
        if point == "K0":
            assert self._count("request") == requests_before
        self._check_taken_over(end)
        answer = self._order(prompt, retry=1, with_key=with_key)
        self._check(end, prompt, answer)
        again = self._order(prompt, retry=2, with_key=True) if with_key else answer
        assert (again.job_id, again.body) == (answer.job_id, answer.body) or not end.charged
        if point in AFTER_THE_ANSWER:
            self._check_told_again(repeats)
        return time.monotonic() - begin

    def _order(self, prompt: str, *, retry: int, with_key: bool) -> Answer:
        size = REMADE_SIZE if self._vendor.point == REMADE_AT else "1280x720"
        body = {"model": "gpt-image-2-vip", "prompt": prompt, "size": size}
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "x-stainless-retry-count": str(retry),
        }
        if with_key:
            headers["Idempotency-Key"] = prompt.replace(" ", "-")
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=60)
        try:
            connection.request("POST", "/v1/images/generations", json.dumps(body), headers)
            answer = connection.getresponse()
            data = json.loads(answer.read())
            return Answer(answer.status, answer.headers["x-safelight-job-id"] or "", data)
        except (ConnectionError, http.client.HTTPException):
            return Answer()
        finally:
            connection.close()

    # --- who is told -----------------------------------------------------------------------------

    def register(self) -> None:
        """Have the receiver told about every end of a job."""
        made = _ask(self.gateway.port, self.key, "/v1/webhooks", {"url": self.receiver.url})
        self._webhook = Webhook(made["secret"])

    def check_all_told(self) -> None:
        """Every job that has ended is told, whatever died in between."""
        for row in rows(self.gateway, "SELECT id, state FROM job ORDER BY created_at"):
            told = self._check_told(row["id"])
            assert {one["type"] for one in told} == {f"job.{row['state']}"}

    def _check_told(self, job_id: str) -> list[Any]:
        """Wait for messages of a job; the official package verifies them, and they have one id."""

        def mine() -> list[Asked]:
            return [one for one in self.receiver.asked if job_id.encode() in one.body]

        self._wait_for(mine, f"{job_id} was not told")
        assert len({one.headers["webhook-id"] for one in mine()}) == 1
        return [self._webhook.verify(one.body, one.headers) for one in mine()]

    def _check_told_again(self, repeats: int) -> None:
        """What was told and not noted, were it an earlier job, is told once more."""
        self._wait_for(lambda: self._repeats() > repeats, "nothing was told again")

    def _repeats(self) -> int:
        """Return how many messages came that had come before."""
        ids = [one.headers["webhook-id"] for one in self.receiver.asked]
        return len(ids) - len(set(ids))

    def _wait_for(self, found: Callable[[], object], otherwise: str) -> None:
        until = time.monotonic() + TOLD_S
        while True:
            self.receiver.arrived.clear()
            if found():
                return
            assert self.receiver.arrived.wait(until - time.monotonic()), otherwise

    # --- what must be true ---------------------------------------------------------------------

    def _check_taken_over(self, end: End) -> None:
        assert self.gateway.announced["recovered_jobs"] == int(end.taken_over)

    def _check(self, end: End, prompt: str, answer: Answer) -> None:
        assert answer.status == (200 if end.charged else 400), answer
        sales = [sale for sale in self.upstream.sales if sale.prompt == prompt]
        asked = [seen for seen in self.upstream.requests if seen.prompt == prompt]
        assert len(sales) == end.sales, sales
        # What was adopted was not asked for again, and what never left was never seen.
        assert len(asked) == (len(end.attempts) if not end.charged else end.sales)
        job_id = self._job_of(prompt)
        attempts = rows(
            self.gateway,
            "SELECT outcome, sold, settled FROM attempt WHERE job_id = :job ORDER BY epoch, k",
            job=job_id,
        )
        journal = [(row["outcome"], row["sold"], row["settled"]) for row in attempts]
        assert journal == [_JOURNAL[one] for one in end.attempts]
        transfers = rows(
            self.gateway,
            "SELECT kind, amount_micros FROM transfer WHERE job_id = :job ORDER BY seq",
            job=job_id,
        )
        last = "settle" if end.charged else "release"
        assert [(row["kind"], row["amount_micros"]) for row in transfers] == [
            ("reserve", PRICE),
            (last, PRICE),
        ]
        if end.charged:
            self._check_picture(answer, job_id, {sale.sha256 for sale in sales})
        else:
            assert answer.body["error"]["code"] == "moderation_blocked"
        self._check_money(end, job_id, answer)
        self.unknown += end.attempts.count("lost")
        left = [path for path in (self.gateway.data / "spool").rglob("*") if path.is_file()]
        assert left == []

    def _check_picture(self, answer: Answer, job_id: str, sold: set[str]) -> None:
        assert answer.job_id == job_id
        assert answer.digest in sold or self._vendor.point == REMADE_AT
        digest = answer.digest
        blob = self.gateway.data / "blobs" / digest[:2] / digest[2:4] / digest
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == digest

    def _check_money(self, end: End, job_id: str, answer: Answer) -> None:
        self._charges += end.charged
        balance = check_sums(self.gateway.url, self.key)
        assert balance["held_micros"] == 0
        assert balance["posted_micros"] == 100_000_000 - self._charges * PRICE
        lines = statement(self.gateway.url, self.key)
        (line,) = [line for line in lines if line["job_id"] == job_id]
        if end.charged:
            assert line["kind"] == "settle"
            assert line["amount_micros"] == str(-PRICE)
            assert line["image_sha256"] == answer.digest
        else:
            assert (line["kind"], line["amount_micros"]) == ("release", "0")
            assert line["reason"] == "moderation_blocked"

    def _job_of(self, prompt: str) -> str:
        """Return the one job of an order: the dead one and the repeat share it."""
        found = rows(self.gateway, "SELECT id, request FROM job ORDER BY created_at")
        (job_id,) = [row["id"] for row in found if json.loads(row["request"])["prompt"] == prompt]
        assert isinstance(job_id, str)
        return job_id

    def _count(self, table: str) -> int:
        return len(rows(self.gateway, f"SELECT 1 FROM {table}"))


def _ask(port: int, key: str, path: str, body: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status < 300, found
    return found


@contextmanager
def bench(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Bench]:
    """Start a gateway that dies on demand; at the end its books must be sound.

    Args:
        folder: for everything.
        environ: for the gateway's process, such as another database.
    """
    fuse = folder / "fuse"
    tests = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, (str(tests), os.environ.get("PYTHONPATH"))))
    vendor = Vendor(fuse.with_name(fuse.name + FUSE_AT_WORK))
    with (
        FaultUpstream.in_thread(vendor.act) as upstream,
        stub_gateway(json_answer({})) as receiver,
    ):
        vendor.upstream = upstream
        gateway = GatewayProcess(
            folder,
            accounts(upstream.base_url) + RECEIVERS,
            program=("-m", "e2e.crashing", str(fuse)),
            environ={**(environ or {}), "PYTHONPATH": path},
        )
        found = Bench(gateway, fuse, vendor, receiver)
        with gateway:
            found.key = gateway.key()
            found.register()
            yield found
            found.check_all_told()
            assert gateway.stop() == 0
        books = witness(gateway.data, gateway.environ)
        assert books.faults == []
        assert (books.waste, books.unknown) == (0, found.unknown)

"""The real program, made to die at a named point: `python -m e2e.crashing FUSE serve ...`.

Owns the points. Nothing of them is in the program itself: a subclass of `App` puts watchers around
the database, the upstream, the blob store and the answers. FUSE is a file; when it holds the name
of the point that is reached, it is removed and the process ends by SIGKILL, there and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safelight.app import App
from safelight.cli import main
from safelight.cli.services import ServerInfo, Services
from safelight.clock import Clock
from safelight.config import Config
from safelight.db import Database, Row, Transaction
from safelight.serving import serve
from safelight.storage import Proof
from safelight.storage.disk import DiskStore
from safelight.types import Account, Received, UpstreamCall
from safelight.upstreams import PartialSink, Upstream

T = TypeVar("T")

POINTS = {
    "K0": "in the transaction that accepts an order, after its last statement",
    "K1": "an order is accepted",
    "K2": "an attempt is journalled, its call has not left",
    "K3": "the upstream works",
    "K4": "half of the picture lies in the .part file",
    "K5": "the answer is complete in the spool, nothing says so yet",
    "K5-received": "the answer is journalled as received, because it is to be remade",
    "K5-kept": "the blob is kept, nothing says so yet",
    "K6": "in the transaction that settles, after its last statement",
    "K7": "the job is settled",
    "K7-head": "before the first byte of the answer to the caller",
    "K8": "in the middle of the answer to the caller",
    "K9": "in the transaction that notes that a webhook was told, after its last statement",
    "release": "in the transaction that releases, after its last statement",
    "released": "the job is released",
}
"""What has just happened at each point."""

LOOK_S = 0.002
HEAD_OF_ANSWER = 4096
"""So many bytes of an answer hold some of its picture."""
FUSE_AT_WORK = ".works"
"""Suffix of the file beside the fuse by which the upstream says that it is at work."""


class Fuse:
    """The file that says where to die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at_work = path.with_name(path.name + FUSE_AT_WORK)

    def armed(self, point: str) -> bool:
        """Return whether this point is the one."""
        try:
            return self._path.read_text() == point
        except FileNotFoundError:
            return False

    def reached(self, point: str | None) -> None:
        """Die here if this is the point."""
        if point is not None and self.armed(point):
            self._path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def upstream_works(self) -> bool:
        """Return whether the upstream has a request that it has not answered."""
        return self._at_work.exists()


# --- the database: before and after the commit of a kind of transaction -------------------------


class _Kind(NamedTuple):
    before_commit: str | None
    after_commit: str | None = None


_ACCEPT, _BEGIN = _Kind("K0", "K1"), _Kind(None, "K2")
_RECEIVE = _Kind(None, "K5-received")
_SETTLE, _RELEASE = _Kind("K6", "K7"), _Kind("release", "released")
_TELL = _Kind("K9")


def _kind(sql: str, params: Mapping[str, Any]) -> _Kind | None:
    """Tell by one of its statements what a transaction is."""
    if sql.startswith("INSERT INTO request "):
        return _ACCEPT
    if sql.startswith("INSERT INTO attempt "):
        return _BEGIN
    if sql.startswith("UPDATE attempt SET outcome = 'ok'"):
        return _RECEIVE
    if sql.startswith("UPDATE webhook_delivery SET state = 'delivered'"):
        return _TELL
    if sql.startswith("INSERT INTO transfer "):
        return {"settle": _SETTLE, "release": _RELEASE}.get(params["kind"])
    return None


class _Watched:
    """A transaction that notes what it is."""

    def __init__(self, inner: Transaction, kinds: set[_Kind]) -> None:
        self._inner = inner
        self._kinds = kinds
        self.now_ms = inner.now_ms

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        kind = _kind(sql, params or {})
        if kind is not None:
            self._kinds.add(kind)
        return self._inner.execute(sql, params)

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        return self._inner.one(sql, params)

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        return self._inner.all(sql, params)

    def lock(self, name: str) -> None:
        self._inner.lock(name)

    def number_on(self, table: str, column: str) -> None:
        self._inner.number_on(table, column)


class CrashingDatabase:
    """A `Database` that dies around a commit."""

    def __init__(self, inner: Database, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        kinds: set[_Kind] = set()

        def watched(tx: Transaction) -> T:
            kinds.clear()
            result = work(_Watched(tx, kinds))
            for kind in kinds:
                self._fuse.reached(kind.before_commit)
            return result

        result = await self._inner.write(watched, company_s=company_s)
        if _SETTLE in kinds:
            kinds.discard(_RECEIVE)  # journalled with it: nothing came between
        for kind in kinds:
            self._fuse.reached(kind.after_commit)
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._inner.read(work)

    async def close(self) -> None:
        await self._inner.close()


# --- the other seams -----------------------------------------------------------------------------


class CrashingUpstream:
    """An `Upstream` that dies while a call is under way, or as its answer is complete."""

    def __init__(self, inner: Upstream, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def check(self, account: Account) -> Account:
        return self._inner.check(account)

    async def probe(self, account: Account, *, deadline: float) -> None:
        await self._inner.probe(account, deadline=deadline)

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        part = spool.with_name(spool.name + ".part")
        looking = asyncio.create_task(self._look(part))
        try:
            received = await self._inner.generate(
                account, call, spool=spool, deadline=deadline, on_partial=on_partial
            )
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
        self._fuse.reached("K5")
        return received

    async def _look(self, part: Path) -> None:
        while True:
            if self._fuse.upstream_works():
                self._fuse.reached("K3")
            # It gets its final name in another thread, at any moment.
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_size:
                    self._fuse.reached("K4")
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        await self._inner.close()


class CrashingStore(DiskStore):
    """A blob store that dies when it has kept a blob."""

    def __init__(self, root: Path, fuse: Fuse) -> None:
        super().__init__(root)
        self._fuse = fuse

    async def put(
        self, source: Path, digest: str, *, given: bool = False, proof: Proof | None = None
    ) -> None:
        await super().put(source, digest, given=given, proof=proof)
        self._fuse.reached("K5-kept")


def crashing_asgi(app: ASGIApp, fuse: Fuse) -> ASGIApp:
    """Return `app`, dying before or in the middle of an answer to an order."""

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        sent = 0

        async def watched(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                fuse.reached("K7-head")
            await send(message)
            sent += len(message.get("body", b""))
            if sent > HEAD_OF_ANSWER and message.get("more_body"):
                fuse.reached("K8")

        await app(scope, receive, watched if scope["method"] == "POST" else send)

    return asgi


class CrashingApp(App):
    """The application with a watcher at every seam."""

    def __init__(self, config: Config, clock: Clock, fuse: Fuse) -> None:
        self._fuse = fuse
        super().__init__(config, clock)
        self.asgi = crashing_asgi(self.asgi, fuse)

    def make_database(self) -> Database:
        return CrashingDatabase(super().make_database(), self._fuse)

    def make_store(self) -> DiskStore:
        return CrashingStore(self.config.data_dir / "blobs", self._fuse)

    def make_upstream(self, name: str) -> Upstream:
        return CrashingUpstream(super().make_upstream(name), self._fuse)


def run(arguments: list[str]) -> int:
    """Run the command line over an application that dies where FUSE says."""
    fuse = Fuse(Path(arguments[0]))

    def dying(config: Config, on_ready: Callable[[ServerInfo], None]) -> int:
        return serve(
            config,
            on_ready=on_ready,
            make_app=lambda config, clock: CrashingApp(config, clock, fuse),
        )

    return main(arguments[1:], Services(serve=dying))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""Durable queues on DBOS, the one module that imports it.

Owns its start, its end and the translation: a work is a workflow of one step, its key the
workflow's id. DBOS runs in threads and an event loop of its own; handlers run in the server's. What
a dead process had begun is found by that process's name and put back. What is done is removed after
an hour; until then its key is known.

Only documented calls are used. DBOS is one object to a process, and so is this engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from safelight.clock import Clock
from safelight.engine import Handler, Queue, Work, chatter
from safelight.engine.connecting import SCHEMA
from safelight.errors import Unavailable

if TYPE_CHECKING:
    import sqlalchemy
    from dbos import DBOSClient, EnqueueOptions

log = logging.getLogger("safelight.engine")

T = TypeVar("T")

NAME = "safelight"
VERSION = "1"
"""Of what is queued, not of the program: an upgraded process goes on with older works. It is raised
only if works of the form before could not be understood."""
PREFIX = "safelight-"
WORKFLOW = "safelight.work"
NO_PARTITION = "-"
WIDTHS: Mapping[Queue, int] = {
    "jobs": 64,
    "webhooks": 32,
    "batches": 4,
    "storage": 8,
    "vendor_batches": 8,
}
POLLS_S: Mapping[Queue, float] = {
    "jobs": 0.5,
    "webhooks": 0.5,
    "batches": 1.0,
    "storage": 1.0,
    "vendor_batches": 2.0,
}
CHUNK = 200
"""Works that are queued, put back or removed in one transaction."""
MANY = 20
"""From so many works on it is asked first which of their keys are known."""
KEEP_S = 3600.0
"""How long the key of a finished work is known."""
PENDING, DONE = "PENDING", ["SUCCESS", "ERROR", "CANCELLED"]
LAUNCH_S = 60.0
"""How long a caller waits for an engine that is starting."""


class DurableEngine:
    """One process's way to the durable queues (see `safelight.engine.Engine`).

    Args:
        connect: makes the connections to its database; called in a thread.
        owner: name of this process; what it has begun carries it.
        handlers: by queue; read at the start.
        dead: says which of these processes live no more.
        clock: the time by which finished works grow old.
        widths: most works of a queue that run in this process at one time.
        share: most of that for one partition.
        polls_s: how often a queue is looked at.
        runs: whether this process runs works; one that does not still queues them.
        used: says whether anything was ever queued. Until then, and until something is queued here,
            DBOS is not loaded: it takes 40 MB, and asks its database several times a second.
    """

    def __init__(  # noqa: PLR0913  (everything an engine depends on, given by name)
        self,
        connect: Callable[[], sqlalchemy.Engine],
        *,
        owner: str,
        handlers: Mapping[Queue, Handler],
        dead: Callable[[Collection[str]], Awaitable[set[str]]],
        clock: Clock,
        widths: Mapping[Queue, int] = WIDTHS,
        share: float = 0.5,
        polls_s: Mapping[Queue, float] = POLLS_S,
        runs: bool = True,
        used: Callable[[], bool] = lambda: True,
    ) -> None:
        self._used = used
        self._connect = connect
        self._owner = owner
        self._handlers = handlers
        self._dead = dead
        self._clock = clock
        self._widths = {**WIDTHS, **widths}
        self._share = share
        self._polls_s = {**POLLS_S, **polls_s}
        self._runs = runs
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="engine")
        self._ready: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._database: sqlalchemy.Engine | None = None
        self._client: DBOSClient | None = None
        self._launched = False
        self._paused = False
        self._pausing = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._stopped = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._handled: set[str] = set()
        """Keys of those that run whose handler has ended: they only have to be written down."""

    # --- the seam ------------------------------------------------------------------------------

    async def enqueue(self, works: Iterable[Work]) -> None:
        """Queue works durably; those whose keys are known are left out.

        Raises:
            Unavailable: the engine's database does not answer; some may be queued.
        """
        for chunk in _chunks(list(works)):
            await self._ask(partial(self._insert, works=chunk))

    async def withdraw(self, keys: Iterable[str]) -> None:
        """Take works out that have not begun; others are left alone.

        Raises:
            Unavailable: the engine's database does not answer.
        """
        if self._ready is not None and self._starting is None and not self._used():
            return
        for chunk in _chunks([PREFIX + key for key in keys]):
            await self._ask(partial(_withdraw, ids=chunk))

    async def start(self) -> None:
        """Begin to call the handlers, in a moment: it starts in a thread of its own.

        While its database does not answer it is tried again and again.
        """
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        if self._used():
            self._open()

    async def pause(self) -> None:
        """Begin no more works; those that run go on. Works are still queued."""
        if self._paused or self._ready is None:
            return
        self._paused = True
        self._pausing.set()
        if self._starting is None:
            return  # nothing was ever queued
        # A start that is under way comes to its end: half of DBOS could not be ended.
        await asyncio.wait({self._starting}, timeout=LAUNCH_S)
        await self._in_thread(self._end_dbos)
        with contextlib.suppress(Unavailable):
            await self._put_back(self._owner, but=set(self._running))

    async def stop(self) -> None:
        """Begin no more works; those that run are left for another process to begin again."""
        await self.pause()
        self._stopped = True
        left = dict(self._running)
        for key, task in left.items():
            if key not in self._handled:
                task.cancel()
        await asyncio.gather(*left.values(), return_exceptions=True)
        if self._starting is not None:
            with contextlib.suppress(Unavailable):
                await self._put_back(self._owner, but=set())
            await self._in_thread(self._close)
        self._threads.shutdown(wait=False)

    async def look(self) -> None:
        """Put back what dead processes had begun, and forget what was done long ago.

        Raises:
            Unavailable: the engine's database does not answer.
        """
        if self._paused or self._ready is None:
            return
        if self._starting is None and self._used():  # another process has queued something
            self._open()
        if not self._ready.done():
            return
        begun = await self._ask(_owners_of_begun)
        for owner in sorted(await self._dead(begun - {self._owner})):
            await self._put_back(owner, but=set())
        before = datetime.fromtimestamp(self._clock.now_ms() / 1000 - KEEP_S, UTC).isoformat()
        while await self._ask(lambda client: _forget(client, before)) == CHUNK:
            pass

    # --- starting and ending -------------------------------------------------------------------

    def _open(self) -> None:
        """Begin to start, unless that has begun."""
        if self._starting is None and not self._paused:
            self._starting = asyncio.create_task(self._start(), name="engine start")

    async def _start(self) -> None:
        assert self._ready is not None
        pause_s = 0.5
        while not self._paused:
            try:
                await self._in_thread(self._launch)
            except Exception:  # whatever its database says, the server serves without it
                log.exception("the queues cannot be opened yet")
                await self._in_thread(self._end_dbos)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._pausing.wait(), pause_s)
                pause_s = min(2 * pause_s, 15.0)
            else:
                break
        self._ready.set_result(None)

    def _launch(self) -> None:
        chatter.redirect()
        from dbos import DBOS, DBOSClient  # noqa: PLC0415  (half a second: never at import)

        if self._database is None:
            self._database = self._connect()
        DBOS(
            config={
                "name": NAME,
                "system_database_engine": self._database,
                "dbos_system_schema": SCHEMA,
                "application_version": VERSION,
                "executor_id": self._owner,
                "log_level": "WARNING",
                "enable_otlp": False,
                "use_listen_notify": False,
                "serializer": _json_serializer(),
                "max_executor_threads": 16,
            }
        )

        async def work(queue: Queue, item: str, key: str) -> None:
            await self._work(queue, item, key)

        DBOS.workflow(name=WORKFLOW)(work)
        self._launched = True
        served = [queue for queue in get_args(Queue) if queue in self._handlers]
        DBOS.listen_queues([PREFIX + queue for queue in served] if self._runs else [])
        DBOS.launch()
        for queue in get_args(Queue):
            width = self._widths[queue]
            DBOS.register_queue(
                PREFIX + queue,
                worker_concurrency=width,
                partition_worker_concurrency=max(1, int(width * self._share)),
                polling_interval_sec=self._polls_s[queue],
                on_conflict="always_update",
            )
        if self._client is None:
            self._client = DBOSClient(
                system_database_engine=self._database,
                dbos_system_schema=SCHEMA,
                serializer=_json_serializer(),
                application_name=NAME,
                retry_connection_errors=False,
            )

    def _end_dbos(self) -> None:
        if not self._launched:
            return
        from dbos import DBOS  # noqa: PLC0415  (see above)

        self._launched = False
        DBOS.destroy(destroy_registry=True)

    def _close(self) -> None:
        if self._client is not None:
            self._client.destroy()
            self._client = None
        if self._database is not None:
            self._database.dispose()
            self._database = None

    # --- running -------------------------------------------------------------------------------

    async def _work(self, queue: Queue, item: str, key: str) -> None:
        """Run one work: called by DBOS in its own loop."""
        assert self._loop is not None
        running = asyncio.run_coroutine_threadsafe(self._begin(queue, item, key), self._loop)
        # The handler goes on when this loop ends: what becomes of its work is then said by itself.
        await asyncio.shield(asyncio.wrap_future(running))

    async def _begin(self, queue: Queue, item: str, key: str) -> None:
        if self._paused or key in self._running:
            await asyncio.Event().wait()  # put back when the process pauses
        task = asyncio.create_task(self._handle(queue, item, key), name=key)
        self._running[key] = task
        task.add_done_callback(lambda _: self._forget_run(key))
        await asyncio.wait({task})
        if task.cancelled():
            await asyncio.Event().wait()

    def _forget_run(self, key: str) -> None:
        self._running.pop(key, None)
        self._handled.discard(key)

    async def _handle(self, queue: Queue, item: str, key: str) -> None:
        try:
            await self._handlers[queue](item)
        except Exception:  # an engine repeats nothing: the row's owner looks for what was left
            log.exception("queued work failed", extra={"subject": item})
        if self._stopped:  # cut short, however it ended
            return
        self._handled.add(key)
        if self._paused:
            with contextlib.suppress(Unavailable):
                await self._ask(lambda client: client.cancel_workflows([PREFIX + key]))

    async def _put_back(self, owner: str, *, but: Collection[str]) -> None:
        """Let what a process had begun be begun again, whose place in the line it keeps."""
        kept = {PREFIX + key for key in but}
        put = await self._ask(lambda client: _put_back(client, owner, kept))
        if put and owner != self._owner:
            log.warning("queued work of a dead process begins again", extra={"jobs": put})

    # --- asking ----------------------------------------------------------------------------------

    async def _ask(self, question: Callable[[DBOSClient], T]) -> T:
        """Ask the engine's database in a thread.

        Raises:
            Unavailable: it does not answer, or the engine has not started or is closed.
        """
        if self._ready is None:
            raise Unavailable("The queues are closed.")
        self._open()
        if not self._ready.done() and not self._paused:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._ready), LAUNCH_S)
        client = self._client
        if client is None:
            raise Unavailable("The queues are not open.")
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415  (see above)

        try:
            return await self._in_thread(lambda: question(client))
        except SQLAlchemyError as error:
            raise Unavailable(f"The queues do not answer ({type(error).__name__}).") from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _insert(self, client: DBOSClient, works: Sequence[Work]) -> None:
        assert self._database is not None
        # A sweep repeats thousands that are known: asked first, it takes no lock and a twentieth.
        known = _known(client, works) if len(works) >= MANY else frozenset()
        new = [work for work in works if PREFIX + work.key not in known]
        if not new:
            return
        with self._database.begin() as connection:
            for work in new:
                options: EnqueueOptions = {
                    "workflow_name": WORKFLOW,
                    "queue_name": PREFIX + work.queue,
                    "workflow_id": PREFIX + work.key,
                    "app_version": VERSION,
                    "priority": work.priority,
                    "queue_partition_key": work.partition or NO_PARTITION,
                }
                if work.delay_s > 0:
                    options["delay_seconds"] = work.delay_s
                client.enqueue_in_transaction(connection, options, work.queue, work.item, work.key)


def _known(client: DBOSClient, works: Sequence[Work]) -> frozenset[str]:
    found = client.list_workflows(
        workflow_ids=[PREFIX + work.key for work in works], load_input=False, load_output=False
    )
    return frozenset(one.workflow_id for one in found)


def _withdraw(client: DBOSClient, ids: list[str]) -> None:
    found = client.list_workflows(
        workflow_ids=ids, status=["ENQUEUED", "DELAYED"], load_input=False, load_output=False
    )
    if found:
        client.cancel_workflows([one.workflow_id for one in found])


def _owners_of_begun(client: DBOSClient) -> set[str]:
    begun = client.list_workflows(status=PENDING, load_input=False, load_output=False)
    return {one.executor_id for one in begun if one.executor_id}


def _put_back(client: DBOSClient, owner: str, kept: Collection[str]) -> int:
    begun = client.list_workflows(
        status=PENDING, executor_id=owner, load_input=False, load_output=False
    )
    count = 0
    for queue in sorted({one.queue_name for one in begun if one.queue_name}):
        ids = [
            one.workflow_id
            for one in begun
            if one.queue_name == queue and one.workflow_id not in kept
        ]
        if ids:
            client.resume_workflows(ids, queue_name=queue)
        count += len(ids)
    return count


def _forget(client: DBOSClient, before: str) -> int:
    done = client.list_workflows(
        status=DONE, completed_before=before, limit=CHUNK, load_input=False, load_output=False
    )
    if done:
        client.delete_workflows([one.workflow_id for one in done])
    return len(done)


def _chunks(things: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(things), CHUNK):
        yield things[start : start + CHUNK]


def _json_serializer() -> Any:
    """Return what writes arguments as JSON: a pickle in a database would be code."""
    from dbos import Serializer  # noqa: PLC0415  (see above)

    class JsonSerializer(Serializer):
        def serialize(self, data: Any) -> str:
            return json.dumps(data)

        def deserialize(self, serialized_data: str) -> Any:
            return json.loads(serialized_data)

        def name(self) -> str:
            return "json"

    return JsonSerializer()

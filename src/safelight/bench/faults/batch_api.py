"""The fault upstream's Files and Batch API: files kept, lines worked on in vendor time, sold once.

Owns the vendor's side of a batch (OpenAI API reference, "Batch" and "Files"): its statuses, what is
done when it is cancelled or its window ends, its output in an order of its own, and the scripted
faults of its routes. Pictures are made and refused as for calls, by the same script, and booked as
sales of kind `batch`; whoever asks sees a batch as far as vendor time has brought it.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import BodyPartReader, web

from safelight.bench.faults.books import Seen
from safelight.bench.faults.errors import error, refusal
from safelight.bench.faults.replies import Reply
from safelight.bench.faults.script import Behaviour, Kind

if TYPE_CHECKING:
    from safelight.bench.faults.server import FaultUpstream

_ENDPOINTS = ("/v1/images/generations", "/v1/images/edits")
_LINES_MAX = 50_000
_FINAL = ("completed", "failed", "expired", "cancelled")
_TOLD = frozenset((Kind.STATUS, Kind.THROTTLED, Kind.MODERATION, Kind.QUOTA, Kind.AUTH))


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast batches are. All durations are vendor seconds.

    Args:
        process_s: how long all lines take, evenly spread.
        finalize_s: how long a batch whose lines are done takes to be completed.
        cancel_s: how long a cancelled one takes to end.
        window_s: when what is not done expires.
    """

    process_s: float = 0.0
    finalize_s: float = 0.0
    cancel_s: float = 0.0
    window_s: float = 86_400.0


@dataclass
class _File:
    id: str
    data: bytes
    purpose: str
    filename: str
    created_at: int
    key: str

    def view(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class _Batch:
    id: str
    key: str
    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    created_s: float
    lines: list[dict[str, Any]]
    status: str = "in_progress"
    worked: int = 0
    """Lines that are done."""
    cancelled_s: float | None = None
    problem: str | None = None
    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None


class BatchDesk:
    """The batches of one fault upstream.

    `faults` by route (upload, create, list, look, cancel, content, delete) are taken in order, one
    for each request: a status, `reset` (nothing is done), `lost` (it is done, and the answer is
    not given) or `cut` (half of a file). `fail_next`: why the next batch fails as a whole.

    Args:
        server: whose script, keys, clock and books are used.
    """

    def __init__(self, server: FaultUpstream) -> None:
        self.server = server
        self.files: dict[str, _File] = {}
        self.batches: dict[str, _Batch] = {}
        self.faults: defaultdict[str, list[int | str]] = defaultdict(list)
        self.seen: list[str] = []
        """Every route that was asked for, in order."""
        self.fail_next: str | None = None

    def routes(self, app: web.Application) -> None:
        """Add the routes to a server."""
        add = app.router.add_route
        add("POST", "/v1/files", self._played("upload", self._upload))
        add("GET", "/v1/files/{id}/content", self._played("content", self._content))
        add("DELETE", "/v1/files/{id}", self._played("delete", self._delete))
        add("POST", "/v1/batches", self._played("create", self._create))
        add("GET", "/v1/batches", self._played("list", self._list))
        add("GET", "/v1/batches/{id}", self._played("look", self._look))
        add("POST", "/v1/batches/{id}/cancel", self._played("cancel", self._cancel))

    def _played(
        self, name: str, work: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def play(request: web.Request) -> web.StreamResponse:
            self.seen.append(name)
            fault = self.faults[name].pop(0) if self.faults[name] else None
            if not self.server.knows(_key(request)):
                return _refused(401, error("Incorrect API key.", code="invalid_api_key"))
            if isinstance(fault, int):
                status, body = refusal(Behaviour(kind=Kind.STATUS, status=fault), model="", key="")
                return _refused(status, body)
            if fault == "reset":
                return _hang_up(request)
            answer = await work(request)
            if fault == "lost":
                return _hang_up(request)
            if fault == "cut" and isinstance(answer, web.Response):
                whole = cast("bytes", answer.body)
                cut = web.StreamResponse(headers={"content-length": str(len(whole))})
                await cut.prepare(request)
                await cut.write(whole[: len(whole) // 2])
                return _hang_up(request, cut)
            return answer

        return play

    # --- files ---

    async def _upload(self, request: web.Request) -> web.Response:
        fields: dict[str, str] = {}
        data, filename = b"", ""
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            if part.filename is None:
                fields[part.name or ""] = bytes(await part.read()).decode()
            else:
                data, filename = bytes(await part.read()), part.filename
        kept = self._keep(data, fields.get("purpose", ""), filename, _key(request))
        return web.json_response(kept.view())

    def _keep(self, data: bytes, purpose: str, filename: str, key: str) -> _File:
        file = _File(
            f"file-{secrets.token_hex(8)}", data, purpose, filename, self._created_at(), key
        )
        self.files[file.id] = file
        return file

    def _file(self, request: web.Request) -> _File:
        file = self.files.get(request.match_info["id"])
        if file is None or file.key != _key(request):
            raise web.HTTPNotFound(
                text=msgspec.json.encode(error("No such File object.")).decode(),
                content_type="application/json",
            )
        return file

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self._file(request).data, content_type="application/octet-stream")

    async def _delete(self, request: web.Request) -> web.Response:
        file = self._file(request)
        del self.files[file.id]
        return web.json_response({"id": file.id, "object": "file", "deleted": True})

    # --- batches ---

    async def _create(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=dict[str, Any])
        file = self.files.get(asked.get("input_file_id", ""))
        if file is None or file.key != _key(request) or file.purpose != "batch":
            return _refused(400, error("Invalid file.", param="input_file_id"))
        if asked.get("endpoint") not in _ENDPOINTS or asked.get("completion_window") != "24h":
            return _refused(400, error("Invalid value.", param="endpoint"))
        lines = [msgspec.json.decode(one, type=dict[str, Any]) for one in file.data.splitlines()]
        batch = _Batch(
            f"batch_{secrets.token_hex(8)}",
            _key(request),
            file.id,
            asked["endpoint"],
            asked.get("metadata"),
            self.server.time.now_s(),
            lines,
        )
        problem, self.fail_next = self.fail_next or _wrong(lines, batch.endpoint), None
        if problem is not None:
            batch.status, batch.problem = "failed", problem
        self.batches[batch.id] = batch
        return web.json_response(self._view(batch))

    async def _list(self, request: web.Request) -> web.Response:
        mine = [one for one in self.batches.values() if one.key == _key(request)][::-1]
        after, limit = request.query.get("after"), int(request.query.get("limit", "20"))
        if after is not None:
            mine = mine[[one.id for one in mine].index(after) + 1 :]
        data = [self._view(one) for one in mine[:limit]]
        return web.json_response({"object": "list", "data": data, "has_more": len(mine) > limit})

    def _batch(self, request: web.Request) -> _Batch:
        batch = self.batches.get(request.match_info["id"])
        if batch is None or batch.key != _key(request):
            raise web.HTTPNotFound(
                text=msgspec.json.encode(error("No batch found.")).decode(),
                content_type="application/json",
            )
        return batch

    async def _look(self, request: web.Request) -> web.Response:
        batch = self._batch(request)
        await self.work_on(batch)
        return web.json_response(self._view(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self._batch(request)
        await self.work_on(batch)
        if batch.status in _FINAL:
            text = f"Cannot cancel a batch with status '{batch.status}'."
            return _refused(409, error(text))
        batch.cancelled_s = batch.cancelled_s or self.server.time.now_s()
        await self.work_on(batch)
        return web.json_response(self._view(batch))

    # --- work ---

    async def work_on(self, batch: _Batch) -> None:
        """Bring a batch as far as vendor time has."""
        if batch.status in _FINAL:
            return
        plan, now_s = self.server.scenario.batches, self.server.time.now_s()
        ends_s = batch.created_s + plan.window_s
        until_s = min(now_s, ends_s, now_s if batch.cancelled_s is None else batch.cancelled_s)
        total = len(batch.lines)
        share = 1.0 if not plan.process_s else (until_s - batch.created_s) / plan.process_s
        while batch.worked < min(total, int(total * share + 1e-9)):
            await self._make(batch, batch.lines[batch.worked])
            batch.worked += 1
        if batch.worked == total and now_s >= batch.created_s + plan.process_s + plan.finalize_s:
            self._end(batch, "completed")
        elif batch.cancelled_s is not None:
            if now_s >= batch.cancelled_s + plan.cancel_s:
                self._end(batch, "cancelled")
            else:
                batch.status = "cancelling"
        elif now_s >= ends_s:
            self._end(batch, "expired")
        elif batch.worked == total:
            batch.status = "finalizing"

    async def _make(self, batch: _Batch, line: dict[str, Any]) -> None:
        seen = Seen(0, 0.0, batch.endpoint, batch.key, {}, fields=dict(line["body"]))
        seen.at_s = self.server.time.now_s()
        seen.group = self.server.scenario.groups.get(batch.key, batch.key)
        behaviour = self.server.decide_line(seen)
        seen.kind = "batch"
        request_id = f"req_{secrets.token_hex(8)}"
        if behaviour.sells and behaviour.kind is not Kind.STATUS:
            reply = Reply(self.server, cast("web.Request", None), seen, behaviour)
            await reply.make(latency_s=0.0)
            reply.delivered()
            batch.output.append(_line(line, request_id, 200, reply.document()))
            return
        told = behaviour if behaviour.kind in _TOLD else Behaviour(kind=Kind.STATUS)
        status, body = refusal(told, model=seen.model, key=seen.key, prompt=seen.prompt)
        batch.errors.append(_line(line, request_id, status, msgspec.json.encode(body)))

    def _end(self, batch: _Batch, status: str) -> None:
        batch.status = status
        code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}.get(status)
        for line in batch.lines[batch.worked :]:
            told = {"code": code, "message": "This request was not executed."}
            entry = {"id": _request_id(), "custom_id": line["custom_id"], "response": None}
            batch.errors.append(msgspec.json.encode({**entry, "error": told}) + b"\n")
        # The order of the input is not kept.
        if batch.output:
            data = b"".join(reversed(batch.output))
            batch.output_file_id = self._keep(data, "batch_output", "output.jsonl", batch.key).id
        if batch.errors:
            data = b"".join(batch.errors)
            batch.error_file_id = self._keep(data, "batch_output", "error.jsonl", batch.key).id

    def _view(self, batch: _Batch) -> dict[str, Any]:
        told = {"object": "list", "data": [{"code": "invalid", "message": batch.problem}]}
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": told if batch.problem else None,
            "input_file_id": batch.input_file_id,
            "completion_window": "24h",
            "status": batch.status,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "created_at": self._created_at(batch.created_s),
            "metadata": batch.metadata,
            "request_counts": {
                "total": len(batch.lines),
                "completed": len(batch.output),
                "failed": len(batch.errors),
            },
        }

    def _created_at(self, vendor_s: float | None = None) -> int:
        """Return unix seconds that grow with vendor time."""
        return 1_800_000_000 + int(self.server.time.now_s() if vendor_s is None else vendor_s)


def _line(line: dict[str, Any], request_id: str, status: int, body: bytes) -> bytes:
    head = msgspec.json.encode({"id": _request_id(), "custom_id": line["custom_id"]})[:-1]
    response = msgspec.json.encode({"status_code": status, "request_id": request_id})[:-1]
    return head + b',"response":' + response + b',"body":' + body + b'},"error":null}\n'


def _request_id() -> str:
    return f"batch_req_{secrets.token_hex(8)}"


def _wrong(lines: list[dict[str, Any]], endpoint: str) -> str | None:
    """Return why a file is refused as a whole, or None."""
    if not 0 < len(lines) <= _LINES_MAX:
        return "The batch has no lines, or too many."
    names = {line.get("custom_id") for line in lines}
    fitting = all(line.get("method") == "POST" and line.get("url") == endpoint for line in lines)
    return None if fitting and len(names) == len(lines) else "A line is not valid."


def _key(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _refused(status: int, body: Any) -> web.Response:
    return web.json_response(body, status=status)


def _hang_up(request: web.Request, begun: web.StreamResponse | None = None) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return begun or web.Response()

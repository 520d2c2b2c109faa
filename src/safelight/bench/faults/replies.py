"""How the fault upstream writes its answers, good and broken ones."""

from __future__ import annotations

import gzip
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import pybase64
from aiohttp import web

from safelight.bench.faults import pictures
from safelight.bench.faults.books import Books, Sale, Seen
from safelight.bench.faults.errors import refusal
from safelight.bench.faults.pictures import Picture
from safelight.bench.faults.script import Behaviour, Kind

_HTML = "<!doctype html><title>Just a moment</title><p>proxy-7.internal.example is busy"
_OPENING = b'{"created":1800000000,"data":[{"b64_json":"'
_NEXT = b'"},{"b64_json":"'
_HUGE_BYTES = 72 * 1024 * 1024
_USAGE = {
    "input_tokens": 21,
    "input_tokens_details": {"text_tokens": 13, "image_tokens": 8},
    "output_tokens": 196,
    "output_tokens_details": {"text_tokens": 4, "image_tokens": 192},
    "total_tokens": 217,
}


class Vendor(Protocol):
    """What a reply needs of the server that it is written for."""

    books: Books
    pictures: dict[str, tuple[bytes, str]]
    """Pictures that are told by their address: name to bytes and media type."""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        ...

    def picture_s(self, seen: Seen) -> float:
        """Return how long a picture takes for this request."""
        ...

    def failure_s(self, seen: Seen) -> float:
        """Return how long a server failure takes for this request."""
        ...

    async def work(self, seconds: float | None, request: web.BaseRequest | None = None) -> None:
        """Let vendor seconds pass; with a request, until its client goes. None: for ever."""
        ...


class Reply:
    """One answer in the making."""

    def __init__(
        self, server: Vendor, request: web.Request, seen: Seen, behaviour: Behaviour
    ) -> None:
        self.server = server
        self.request = request
        self.seen = seen
        self.behaviour = behaviour
        self.headers = {"x-request-id": f"req_{secrets.token_hex(8)}", **behaviour.headers}
        if behaviour.retry_after is not None:
            self.headers["retry-after"] = behaviour.retry_after
        self.form = seen.form
        self.size = "1024x1024" if seen.size == "auto" else seen.size
        self.made: list[Picture] = []
        self.sales: list[Sale] = []

    @property
    def latency_s(self) -> float:
        """How long the pictures take."""
        given = self.behaviour.latency_s
        return self.server.picture_s(self.seen) if given is None else given

    @property
    def failure_s(self) -> float:
        """How long it takes to fail."""
        if self.behaviour.latency_s is not None:
            return self.behaviour.latency_s
        slow = self.behaviour.is_server_fault
        return self.server.failure_s(self.seen) if slow else 0.0

    async def begin(self, content_type: str, **more: Any) -> web.StreamResponse:
        """Send the headers of a good answer."""
        response = web.StreamResponse(headers={**self.headers, "content-type": content_type})
        if "length" in more:
            response.content_length = more["length"]
        if "encoding" in more:
            response.headers["content-encoding"] = more["encoding"]
        await response.prepare(self.request)
        return response

    async def make(self, *, latency_s: float) -> None:
        """Work, then make the pictures and book their sale, client or no client."""
        await self.server.work(latency_s)
        kind = self.behaviour.kind
        if kind is Kind.WRONG_SIZE:
            self.size = "1024x1536" if self.size != "1024x1536" else "1024x1024"
        if kind is Kind.WRONG_FORMAT:
            self.form = pictures.OTHER_FORMAT[self.form]
        for _ in range(self.seen.images):
            sale_id = f"sale_{secrets.token_hex(12)}"
            picture = self._picture(sale_id)
            self.made.append(picture)
            request_id = self.headers["x-request-id"]
            self.sales.append(self.server.books.sold(self.seen, picture, sale_id, request_id))

    def _picture(self, sale_id: str) -> Picture:
        width, height = map(int, self.size.split("x"))
        alpha = self.seen.fields.get("background") == "transparent" and self.form != "jpeg"
        corrupt = self.behaviour.kind is Kind.CORRUPT
        if not corrupt and not self.behaviour.padding:
            mould = pictures.mould(width, height, self.form, alpha=alpha, tag_bytes=len(sale_id))
            return mould.cast(sale_id)
        data = pictures.encoded(width, height, self.form, alpha=alpha)
        data = pictures.unique(data, self.form, sale_id, padding=self.behaviour.padding)
        return Picture.of(pictures.corrupted(data) if corrupt else data, self.form, self.size)

    def document(self) -> bytes:
        """Return the images body."""
        made = self.made * 2 if self.behaviour.kind is Kind.TWO_IMAGES else self.made
        pieces = [_OPENING]
        for picture in made:
            pieces += (_NEXT if len(pieces) > 1 else b"", *self._text(picture))
        tail = msgspec.json.encode({**self.echo(), "usage": _USAGE})
        return b"".join((*pieces, b'"}],', tail[1:]))

    def _text(self, picture: Picture) -> tuple[bytes, ...]:
        text = picture.text
        match self.behaviour.kind:
            case Kind.DATA_PREFIX:
                return f"data:{pictures.CONTENT_TYPES[self.form]};base64,".encode(), *text
            case Kind.ESCAPED:
                return (b"".join(text).replace(b"/", rb"\/").replace(b"+", rb"\u002b"),)
            case Kind.BAD_BASE64:
                whole = b"".join(text)
                return whole[:2000], b"*", whole[2001:]
        return text

    def echo(self) -> dict[str, Any]:
        """Return the fields that repeat what was made."""
        return {
            "size": self.size,
            "quality": self.seen.fields.get("quality", "low"),
            "background": self.seen.fields.get("background", "opaque"),
            "output_format": self.form,
        }

    def delivered(self) -> None:
        """Note that the last byte was written."""
        for sale in self.sales:
            self.server.books.delivered(sale)

    def hang_up(self, *, hard: bool = False) -> None:
        """Close the connection in mid-answer; hard: with a reset."""
        transport = self.request.transport
        if transport is None:
            return
        if hard:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()


async def reply(
    server: Vendor, request: web.Request, seen: Seen, behaviour: Behaviour
) -> web.StreamResponse:
    """Answer one request as its behaviour says."""
    answer = Reply(server, request, seen, behaviour)
    if not behaviour.sells:
        await server.work(answer.failure_s)
    if behaviour.kind in _ODD:
        return await _ODD[behaviour.kind](answer)
    if behaviour.sells and behaviour.kind is not Kind.STATUS:
        if seen.streams and behaviour.kind is Kind.OK:
            return await _events(answer)
        await answer.make(latency_s=answer.latency_s)
        return await _SELL.get(behaviour.kind, _whole)(answer)
    return await _refuse(answer)


async def _refuse(answer: Reply) -> web.StreamResponse:
    behaviour, seen = answer.behaviour, answer.seen
    if behaviour.sells:
        await answer.make(latency_s=answer.latency_s)
    status, body = refusal(behaviour, model=seen.model, key=seen.key, prompt=seen.prompt)
    shape = behaviour.shape_for(seen.prompt) if behaviour.kind is Kind.MODERATION else ""
    if shape == "stream" or (shape == "ok_200" and seen.streams):
        response = await answer.begin("text/event-stream")
        await _event(response, "error", body)
        return response
    return web.json_response(body, status=status, headers=answer.headers)


async def _whole(answer: Reply) -> web.StreamResponse:
    body = answer.document()
    response = web.Response(body=body, headers=answer.headers, content_type="application/json")
    await response.prepare(answer.request)
    await response.write_eof()
    answer.delivered()
    return response


async def _zipped(answer: Reply) -> web.StreamResponse:
    body = gzip.compress(answer.document(), compresslevel=1)
    response = await answer.begin("application/json", length=len(body), encoding="gzip")
    await response.write(body)
    answer.delivered()
    return response


async def _address(answer: Reply) -> web.StreamResponse:
    urls = []
    for picture, sale in zip(answer.made, answer.sales, strict=True):
        name = f"{sale.id}.{answer.form}"
        answer.server.pictures[name] = (picture.data, pictures.CONTENT_TYPES[answer.form])
        urls.append({"url": answer.behaviour.url or f"{answer.server.origin}/pictures/{name}"})
    body = {"created": 1_800_000_000, "data": urls, "usage": _USAGE}
    return web.json_response(body, headers=answer.headers)


async def _short(answer: Reply) -> web.StreamResponse:
    body = answer.document()
    response = await answer.begin("application/json", length=len(body))
    await response.write(body[: len(body) // 2])
    answer.hang_up()
    return response


async def _cut_json(answer: Reply) -> web.StreamResponse:
    body = answer.document()
    return web.Response(
        body=body[: len(body) // 2], content_type="application/json", headers=answer.headers
    )


async def _stall_body(answer: Reply) -> web.StreamResponse:
    body = answer.document()
    response = await answer.begin("application/json", length=len(body))
    await response.write(body[: len(body) // 2])
    await answer.server.work(answer.behaviour.seconds, answer.request)
    answer.hang_up()
    return response


async def _trickle(answer: Reply) -> web.StreamResponse:
    body = answer.document()
    response = await answer.begin("application/json", length=len(body))
    for at in range(0, len(body), 64):
        await response.write(body[at : at + 64])
        await answer.server.work(0.02)
    answer.delivered()
    return response


async def _huge(answer: Reply) -> web.StreamResponse:
    response = await answer.begin("application/json")
    await response.write(_OPENING)
    for _ in range(_HUGE_BYTES // (1 << 20)):
        await response.write(b"A" * (1 << 20))
    return response


async def _bomb(answer: Reply) -> web.StreamResponse:
    response = await answer.begin("application/json", encoding="gzip")
    await response.write(_packed_bomb())
    return response


@lru_cache(maxsize=1)
def _packed_bomb() -> bytes:
    return gzip.compress(
        b'{"data": [{"b64_json": "' + b"A" * _HUGE_BYTES + b'"}]}', compresslevel=1
    )


async def _keep_alive(answer: Reply) -> web.StreamResponse:
    response = await answer.begin("application/json")
    for _ in range(4):
        await response.write(b" \n")
        await answer.server.work(answer.latency_s / 4)
    await answer.make(latency_s=0.0)
    await response.write(answer.document())
    answer.delivered()
    return response


async def _events(answer: Reply) -> web.StreamResponse:
    """The vendor's stream: partial images, then the completed one; no `[DONE]`."""
    asked = int(answer.seen.fields.get("partial_images", 0))
    name = "image_edit" if answer.seen.operation == "edits" else "image_generation"
    response = await answer.begin("text/event-stream")
    step = answer.latency_s / (asked + 1)
    await response.write(b": keep-alive\n\n")
    for index in range(asked):
        await answer.server.work(step)
        if not answer.sales:
            await answer.make(latency_s=0.0)
        await _event(response, f"{name}.partial_image", _partial(answer, name, index))
    await answer.server.work(step)
    if not answer.sales:
        await answer.make(latency_s=0.0)
    for picture in answer.made:
        completed = {
            "type": f"{name}.completed",
            "b64_json": b"".join(picture.text).decode(),
            "created_at": 1_800_000_000,
            **answer.echo(),
            "usage": _USAGE,
        }
        await _event(response, f"{name}.completed", completed)
    await response.write_eof()
    answer.delivered()
    return response


def _partial(answer: Reply, name: str, index: int) -> dict[str, Any]:
    width, height = map(int, answer.size.split("x"))
    data = pictures.encoded(width, height, answer.form)
    padding = answer.behaviour.padding
    data = pictures.unique(data, answer.form, f"partial {index}", padding=padding)
    return {
        "type": f"{name}.partial_image",
        "b64_json": pybase64.b64encode(data).decode(),
        "partial_image_index": index,
        "created_at": 1_800_000_000,
        **answer.echo(),
    }


async def _stream_error(answer: Reply) -> web.StreamResponse:
    response = await answer.begin("text/event-stream")
    for index in range(answer.behaviour.partials):
        partial = _partial(answer, "image_generation", index)
        await _event(response, "image_generation.partial_image", partial)
    default = {
        "type": "error",
        "error": {
            "type": "image_generation_server_error",
            "code": "image_generation_failed",
            "message": "Image generation failed (req_F4u1tRequest).",
            "param": None,
        },
        "sequence_number": 0,
    }
    await _event(response, "error", answer.behaviour.body or default)
    return response


async def _event(response: web.StreamResponse, name: str, data: dict[str, Any]) -> None:
    await response.write(f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n")


async def _html(answer: Reply) -> web.StreamResponse:
    return web.Response(text=_HTML, content_type="text/html", headers=answer.headers)


async def _text(answer: Reply) -> web.StreamResponse:
    return web.Response(text="upstream connect error", headers=answer.headers)


async def _redirect(answer: Reply) -> web.StreamResponse:
    url = answer.behaviour.url or f"{answer.server.origin}/v1/elsewhere"
    return web.Response(status=307, headers={**answer.headers, "location": url})


async def _reset(answer: Reply) -> web.StreamResponse:
    answer.hang_up(hard=True)
    return web.Response()


async def _stall(answer: Reply) -> web.StreamResponse:
    await answer.server.work(answer.behaviour.seconds, answer.request)
    answer.hang_up()
    return web.Response()


_Writer = Callable[[Reply], Awaitable[web.StreamResponse]]
_SELL: dict[Kind, _Writer] = {
    Kind.URL: _address,
    Kind.GZIP: _zipped,
    Kind.SHORT: _short,
    Kind.CUT_JSON: _cut_json,
    Kind.STALL_BODY: _stall_body,
    Kind.TRICKLE: _trickle,
    Kind.HUGE: _huge,
    Kind.GZIP_BOMB: _bomb,
}
_ODD: dict[Kind, _Writer] = {
    Kind.KEEP_ALIVE: _keep_alive,
    Kind.STREAM_ERROR: _stream_error,
    Kind.HTML: _html,
    Kind.TEXT: _text,
    Kind.REDIRECT: _redirect,
    Kind.RESET: _reset,
    Kind.STALL: _stall,
}

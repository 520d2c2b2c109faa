"""The skin's HTTP: one error shape everywhere, limits, uploads, streams, jobs and quotes."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any

import aiohttp
import msgspec
import pytest

from api.asking import BODY, MODEL, error_of
from api.conftest import Server
from api.fake_gateway import KEY, OTHER_KEY
from api.pictures import png
from safelight.api import ROUTES
from safelight.api.openapi import OPERATIONS, openapi_json
from safelight.errors import RateLimited, Unavailable

FORMS = ("/v1/files",)
JSON_BODIES = {one.path for one in OPERATIONS if one.method == "post" and one.body} - {*FORMS}
ANY_BODY = ("/v1/diagnostics/body", "/v1/images/links/end")
PUBLIC = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/i/{file}")


# Doors take a key in the body, or a cookie: test_signin_http.py.
KEYED = [route for route in ROUTES if route[1] != "/v1/session"]


@pytest.mark.parametrize(("method", "path", "_handler"), KEYED)
async def test_every_route_fails_in_one_shape(
    server: Server, method: str, path: str, _handler: object
) -> None:
    """Without a key 401; with a wrong method 405 and Allow; both in the envelope."""
    url = path.replace("{id}", "x").replace("{file}", "x.png")
    async with aiohttp.ClientSession(server.url) as stranger:
        wrong = "PUT"
        async with stranger.request(wrong, url) as answer:
            assert answer.status == 405
            assert (await error_of(answer))["code"] == "method_not_allowed"
            assert method in answer.headers["allow"]
        async with stranger.request(method, url) as answer:
            if path not in PUBLIC:
                assert answer.status == 401
                assert (await error_of(answer))["code"] == "invalid_api_key"
                assert answer.headers["www-authenticate"] == "Bearer"
            elif path == "/i/{file}":
                assert answer.status == 404
                await error_of(answer)
            else:
                assert answer.status == 200
    json_type = {"content-type": "application/json"}
    key = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(server.url, headers=key) as caller:
        if method == "POST" and path not in ANY_BODY:
            async with caller.post(url, data=b"[", headers=json_type) as a:
                error = await error_of(a)
                if path in JSON_BODIES:
                    assert (a.status, error["code"]) == (400, "invalid_json")
                else:
                    assert a.status in (400, 404, 415)
        elif "{" in path:
            async with caller.get(url) as a:
                assert a.status == 404
                await error_of(a)


@pytest.mark.parametrize(
    "path", ["/console/", "/v1", "/v1/pictures", "/v1/images/generations/", "/%00"]
)
async def test_an_unknown_path_is_a_404(http: aiohttp.ClientSession, path: str) -> None:
    """No redirect, no plain text."""
    async with http.get(path, allow_redirects=False) as answer:
        assert answer.status == 404
        assert (await error_of(answer))["code"] == "not_found"


async def test_an_unexpected_exception_is_logged_with_its_request(
    http: aiohttp.ClientSession, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an id; the log has the traceback under it."""
    server.gateway.refusal = RuntimeError("a secret")
    with caplog.at_level(logging.ERROR, "safelight.api"):
        async with http.post("/v1/images/generations", json=BODY) as answer:
            assert answer.status == 500
            assert (await error_of(answer))["code"] == "internal_error"
            assert "secret" not in await answer.text()
    record: Any = caplog.records[0]
    assert record.request_id == answer.headers["x-request-id"]
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"content-type": "text/xml"}, 415, "unsupported_media_type"),
        ({"content-type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type"),
    ],
)
async def test_bodies_that_are_not_read(
    http: aiohttp.ClientSession, headers: dict[str, str], status: int, code: str
) -> None:
    """Compression and other types are a 415."""
    async with http.post("/v1/images/generations", data=b"{}", headers=headers) as answer:
        assert answer.status == status
        assert (await error_of(answer))["code"] == code


async def test_a_missing_content_type_is_json(server: Server) -> None:
    """Simple clients forget the header."""
    body = msgspec.json.encode(BODY)
    answer = await server.raw(
        b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(
    server: Server,
) -> None:
    """The answer comes although not a byte of the body was."""
    answer = await server.raw(
        b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: 50001\r\n\r\n" % KEY.encode()
    )
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer.partition(b"\r\n\r\n")[0]
    assert b"request_too_large" in answer
    assert b"connection: close" in answer


async def test_a_client_that_sends_it_all_still_reads_the_413(
    http: aiohttp.ClientSession,
) -> None:
    """The rest of a refused upload is thrown away, so the answer is not lost in a reset."""

    async def endless() -> Any:
        for _ in range(200):
            yield b"x" * 20_000

    for path in ("/v1/images/generations", "/v1/images/edits"):
        async with http.post(
            path, data=endless(), headers={"content-type": "application/json"}
        ) as answer:
            assert answer.status == 413
            assert (await error_of(answer))["code"] == "request_too_large"


async def test_a_connection_survives_an_error(http: aiohttp.ClientSession) -> None:
    """A small refused body costs no reconnect."""
    async with http.post("/v1/nowhere", json=BODY) as answer:
        assert answer.status == 404
        assert "connection" not in answer.headers


@pytest.mark.parametrize(
    "key", ["", "x" * 256, "with space", "t\u00e4st".encode().decode("latin-1")]
)
async def test_an_idempotency_key_is_visible_ascii(http: aiohttp.ClientSession, key: str) -> None:
    """One to 255 characters; anything else is named."""
    async with http.post(
        "/v1/images/generations", json=BODY, headers={"idempotency-key": key}
    ) as answer:
        assert answer.status == 400
        assert (await error_of(answer))["param"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("x", 0), ("-1", 0), ("1e3", 0), ("99999", 0), ("\u0661", 0)]
)
async def test_the_retry_count_is_read_leniently(
    http: aiohttp.ClientSession, server: Server, text: str, count: int
) -> None:
    """What is no number is no retry, and no error."""
    headers = {"x-stainless-retry-count": text.encode().decode("latin-1")}
    async with http.post("/v1/images/generations", json=BODY, headers=headers) as answer:
        assert answer.status == 200
    assert server.gateway.callers[0].retry_count == count


async def test_an_edit_as_json(http: aiohttp.ClientSession, server: Server) -> None:
    """Data URLs and own links stand for files; a foreign link is refused."""
    data = "data:image/png;base64," + base64.b64encode(png(shade=3)).decode()
    mine = server.gateway.add_image("cus_1", png(shade=4))
    link = server.services.links.sign(mine.id, "png", ttl_s=60, link_epoch=0)
    body = {**BODY, "images": [{"image_url": data}, {"image_url": server.url + link}]}
    async with http.post("/v1/images/edits", json={**body, "mask": data}) as answer:
        assert answer.status == 200
    request = server.gateway.requests[0]
    blobs = server.gateway.storage.blobs
    assert [blobs[blob.digest] for blob in request.inputs] == [png(shade=3), png(shade=4)]
    assert request.mask is not None
    for images, code, param in (
        ([{"image_url": "https://example.com/x.png"}], "invalid_image_url", "images[0].image_url"),
        ([{"image_url": "http://169.254.169.254/"}], "invalid_image_url", "images[0].image_url"),
        ([{"image_url": "file:///etc/passwd"}], "invalid_image_url", "images[0].image_url"),
        ([{}], "missing_required_parameter", "images[0].image_url"),
        ([data, data + "!"], "invalid_image_url", "images[1]"),
        (["data:image/png,x"], "invalid_image_url", "images[0]"),
        ([data] * 17, "invalid_value", "image"),
        ([], "missing_required_parameter", "image"),
    ):
        async with http.post("/v1/images/edits", json={**BODY, "images": images}) as answer:
            assert answer.status == 400
            error = await error_of(answer)
            assert (error["code"], error["param"]) == (code, param)


async def test_links_of_others_need_a_signature(
    http: aiohttp.ClientSession, server: Server
) -> None:
    """Another customer's picture is an input only while its link is valid."""
    theirs = server.gateway.add_image("cus_2", png(shade=4))
    link = server.services.links.sign(theirs.id, "png", ttl_s=60, link_epoch=0)
    forged = link[:-1] + ("A" if link[-1] != "A" else "E")
    for url, status in ((link, 200), (f"/i/{theirs.id}.png", 400), (forged, 400)):
        async with http.post("/v1/images/edits", json={**BODY, "image": server.url + url}) as a:
            assert a.status == status, url
    server.clock.advance(61)
    async with http.post("/v1/images/edits", json={**BODY, "image": server.url + link}) as a:
        assert (await error_of(a))["code"] == "invalid_image_url"


async def test_an_edit_form_by_hand(http: aiohttp.ClientSession, server: Server) -> None:
    """Every field name for pictures counts, in order of appearance; a data: URL may be text."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("model", MODEL)
    form.add_field("image[0]", png(shade=1), filename="x")
    form.add_field("prompt", "blue")
    form.add_field("images", png(shade=2), filename="y", content_type="application/octet-stream")
    form.add_field("image", "data:image/png;base64," + base64.b64encode(png(shade=3)).decode())
    async with http.post("/v1/images/edits", data=form) as answer:
        assert answer.status == 200
    blobs = server.gateway.storage.blobs
    assert [blobs[blob.digest] for blob in server.gateway.requests[0].inputs] == [
        png(shade=1),
        png(shade=2),
        png(shade=3),
    ]


@pytest.mark.parametrize(
    ("name", "value", "filename", "status", "code", "param"),
    [
        ("image", "a string", None, 400, "invalid_type", "image"),
        ("image[]", "a string", None, 400, "invalid_type", "image[0]"),
        ("image", b"", "a.png", 400, "invalid_image", "image"),
        ("image", b"GIF89a", "a.png", 400, "invalid_image", "image"),
        ("image", b"x" * 100_001, "a.png", 413, "request_too_large", "image"),
        ("photo", b"x", "a.png", 400, "unknown_parameter", "photo"),
        ("markup", b"x", "a.png", 400, "unsupported_parameter", "markup"),
        ("mask", png(), "a.png", 400, "missing_required_parameter", "image"),
    ],
)
async def test_bad_files_are_named(
    http: aiohttp.ClientSession,
    name: str,
    value: Any,
    filename: str | None,
    status: int,
    code: str,
    param: str,
) -> None:
    """Each refusal says which field it is about."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("model", MODEL)
    form.add_field("prompt", "blue")
    form.add_field(name, value, filename=filename)
    async with http.post("/v1/images/edits", data=form) as answer:
        assert answer.status == status
        error = await error_of(answer)
        assert (error["code"], error["param"]) == (code, param)


async def test_a_waiting_stream_sends_comments(http: aiohttp.ClientSession, server: Server) -> None:
    """Silence is filled with SSE comments, first after the patience, then at the interval."""
    server.gateway.hold = asyncio.Event()
    async with http.post("/v1/images/generations", json={**BODY, "stream": True}) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for _ in range(3):
            assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        server.gateway.hold.set()
        rest = (await answer.read()).replace(b": keep-alive\n\n", b"")
    assert rest.startswith(b"event: image_generation.completed\ndata: {")
    assert rest.endswith(b"}\n\n")
    assert b"[DONE]" not in rest


async def test_a_chat_stream_sends_its_role_at_once(
    http: aiohttp.ClientSession, server: Server
) -> None:
    """Then comments until the picture is there, and `[DONE]` at the end."""
    server.gateway.hold = asyncio.Event()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with http.post("/v1/chat/completions", json=body) as answer:
        assert b'"role":"assistant"' in await answer.content.readuntil(b"\n\n")
        assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        server.gateway.hold.set()
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")


async def test_leaving_the_process_inside_a_stream_is_an_event(
    http: aiohttp.ClientSession, server: Server, tmp_path: Any
) -> None:
    """A started stream ends with an error event and stays joinable; one not started is a 503."""
    coarse = tmp_path / "partial"
    coarse.write_bytes(png())
    leaving = Unavailable("restarting", code="shutting_down", should_retry=True)
    server.gateway.partials = [coarse]
    server.gateway.hold = asyncio.Event()
    async with http.post("/v1/images/generations", json={**BODY, "stream": True}) as answer:
        await answer.content.readuntil(b"\n\n")
        server.gateway.refusal = leaving
        server.gateway.hold.set()
        last = (await answer.read()).rpartition(b"event: error\ndata: ")[2]
    assert msgspec.json.decode(last)["error"]["code"] == "shutting_down"
    assert [attachment.done for attachment in server.gateway.attachments] == [False]


async def test_a_job_is_shown_to_its_owner(http: aiohttp.ClientSession, server: Server) -> None:
    """Status, measured size, plan, price and a fresh link; a 404 for everybody else."""
    async with http.post("/v1/images/generations", json={**BODY, "size": "16:9@2K"}) as answer:
        assert answer.status == 200
        job_id = answer.headers["x-safelight-job-id"]
    async with http.get(f"/v1/jobs/{job_id}") as answer:
        job = await answer.json()
    assert (job["object"], job["status"], job["model"]) == ("image.job", "completed", MODEL)
    assert (job["size"], job["size_plan"], job["price_micros"]) == ("8x6", "native", 30000)
    assert job["image"]["expires_at"] == server.clock.now_ms() // 1000 + 3600
    assert job["usage"]["total_tokens"] == 209
    assert job["error"] is None
    async with http.get(job["image"]["url"]) as answer:
        assert await answer.read() == server.gateway.picture
    others = {"authorization": f"Bearer {OTHER_KEY}"}
    async with http.get(f"/v1/jobs/{job_id}", headers=others) as answer:
        assert answer.status == 404
        await error_of(answer)


async def test_a_quote_costs_nothing(http: aiohttp.ClientSession, server: Server) -> None:
    """Price, plan and canvas, for generations and edits, without an order."""
    body = {"model": MODEL, "size": "2880x3840"}
    async with http.post("/v1/quote", json={**body, "inputs": 2}) as answer:
        quote = await answer.json()
    assert quote["size_plan"].startswith("resample from 2448x3264")
    assert (quote["method"], quote["canvas"]) == ("resample", "2448x3264")
    assert (quote["price_micros"], quote["price"], quote["total"]) == (
        30000,
        "0.030000",
        "0.030000",
    )
    assert quote["serves"] is True
    assert (quote["images_per_minute"], quote["burst"], quote["window_s"]) == (60.0, 12, 61.0)
    assert (quote["at_once"], quote["generation_s"], quote["waiting"]) == (None, None, 3)
    async with http.post("/v1/quote", json={**body, "n": 2}) as answer:
        assert (await error_of(answer))["param"] == "n"
    assert server.gateway.requests == []


async def test_sizes_are_listed(http: aiohttp.ClientSession) -> None:
    """All channels, or the one asked for; an unknown one is a 404."""
    async with http.get("/v1/sizes", params={"model": MODEL}) as answer:
        listed = (await answer.json())["data"]
    assert [channel["model"] for channel in listed] == [MODEL]
    assert len(listed[0]["sizes"]) == 35
    async with http.get("/v1/sizes") as answer:
        assert len((await answer.json())["data"]) == 3
    async with http.get("/v1/sizes", params={"model": "x"}) as answer:
        assert answer.status == 404


async def test_readiness_follows_the_gateway(http: aiohttp.ClientSession, server: Server) -> None:
    """While leaving, and while it takes no orders, the process is healthy and not ready."""
    async with http.get("/readyz") as answer:
        assert answer.status == 200
        assert "connection" not in answer.headers
    server.gateway.leaving = True
    async with http.get("/readyz") as answer:
        assert (answer.status, answer.headers["connection"]) == (503, "close")
    server.gateway.accepting, server.gateway.leaving = False, False
    async with http.get("/readyz") as answer:
        assert answer.status == 503
        assert (await error_of(answer))["code"] == "not_ready"
    async with http.get("/healthz") as answer:
        assert answer.status == 200


async def test_retry_after_is_whole_seconds(http: aiohttp.ClientSession, server: Server) -> None:
    """At least one, at most sixty: older SDKs ignore more."""
    for wait_s, shown in ((0.2, "1"), (12.3, "13"), (4000, "60")):
        server.gateway.refusal = RateLimited("later", retry_after_s=wait_s)
        async with http.post("/v1/images/generations", json=BODY) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (429, shown)


def test_the_document_describes_every_route() -> None:
    """Routes and OpenAPI operations are the same set, and every reference resolves."""
    described = {(operation.method.upper(), operation.path) for operation in OPERATIONS}
    assert described == {(method, path) for method, path, _ in ROUTES}
    document = msgspec.json.decode(openapi_json())
    assert document["openapi"] == "3.1.0"
    names = set(document["components"]["schemas"])
    text = openapi_json().decode()
    used = {piece.partition('"')[0] for piece in text.split("#/components/schemas/")[1:]}
    assert used <= names
    edits = document["paths"]["/v1/images/edits"]["post"]
    assert set(edits["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert document["paths"]["/healthz"]["get"]["security"] == []

"""Signed and stable links over HTTP."""

from __future__ import annotations

import aiohttp
import msgspec
import pytest

from api.conftest import Server
from api.fake_gateway import KEY, OTHER_KEY, MemoryStore
from api.pictures import png
from safelight.api.origin import link_at
from safelight.types import ImageRecord


@pytest.fixture
def image(server: Server) -> ImageRecord:
    return server.gateway.add_image("cus_1", png(40, 30))


@pytest.fixture
def link(server: Server, image: ImageRecord) -> str:
    return server.services.links.sign(image.id, "png", ttl_s=86_400, link_epoch=0)


@pytest.fixture
async def stranger(server: Server) -> aiohttp.ClientSession:
    """Somebody without a key; closed with the test's loop."""
    return aiohttp.ClientSession(server.url)


async def test_a_link_needs_no_key_and_runs_nothing(
    server: Server, stranger: aiohttp.ClientSession, link: str
) -> None:
    """The right type and the headers that keep a browser from anything but showing it."""
    async with stranger, stranger.get(link) as answer:
        assert answer.status == 200
        assert await answer.read() == png(40, 30)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "private"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_link_ends_on_time(
    server: Server, stranger: aiohttp.ClientSession, link: str
) -> None:
    """Served until its last second, then a 404 that says why to who had it."""
    async with stranger:
        server.clock.advance(86_399)
        async with stranger.head(link) as answer:
            assert answer.status == 200
        server.clock.advance(1)
        async with stranger.get(link) as answer:
            assert answer.status == 404
            assert answer.headers["x-url-error"] == "expired"
            assert (await answer.json())["error"]["code"] == "not_found"


async def test_any_changed_byte_is_a_404(server: Server, image: ImageRecord, link: str) -> None:
    """Every position of the link, over raw HTTP so that no client repairs anything."""
    head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await server.raw(b"GET " + link.encode() + head)).startswith(b"HTTP/1.1 200")
    for at in range(len("/i/"), len(link)):
        changed = link[:at] + ("0" if link[at] != "0" else "1") + link[at + 1 :]
        answer = await server.raw(b"GET " + changed.encode() + head)
        assert answer.startswith(b"HTTP/1.1 404"), changed
        # A changed date may be in the past; it is not ours to explain.
        assert b"x-url-error" not in answer
    for changed in (f"{link}&x=1", f"{link}&e=1", link.replace("/i/", "/i/%2e%2e/i/")):
        answer = await server.raw(b"GET " + changed.encode() + head)
        assert answer.startswith(b"HTTP/1.1 404"), changed


async def test_raising_the_epoch_ends_all_links(
    server: Server, stranger: aiohttp.ClientSession, image: ImageRecord, link: str
) -> None:
    """A customer's links die together, without a word about expiry."""
    server.gateway.images[image.id] = msgspec.structs.replace(image, link_epoch=1)
    async with stranger, stranger.get(link) as answer:
        assert answer.status == 404
        assert "x-url-error" not in answer.headers


async def test_a_lost_blob_is_a_404(
    server: Server, stranger: aiohttp.ClientSession, image: ImageRecord, link: str
) -> None:
    """A picture that retention removed has no address."""
    del server.gateway.storage.blobs[image.blob.digest]
    async with stranger, stranger.get(link) as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("header", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=5-", 206, 5, None),
        ("bytes=5-999999", 206, 5, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=-999999", 206, 0, None),
        ("bytes=0-1,3-4", 200, 0, None),
        ("bytes=" + ",".join(["0-"] * 5000), 200, 0, None),
        ("bytes=9-5", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("items=0-1", 200, 0, None),
        ("bytes=" + "9" * 18 + "-", 416, 0, None),
        ("bytes=-0", 416, 0, None),
    ],
)
async def test_one_range_is_served(
    stranger: aiohttp.ClientSession,
    link: str,
    header: str,
    status: int,
    first: int,
    last: int | None,
) -> None:
    """One range of bytes; several, other units and nonsense give the whole picture."""
    whole = png(40, 30)
    async with stranger, stranger.get(link, headers={"range": header}) as answer:
        assert answer.status == status
        if status == 416:
            assert (await answer.json())["error"]["code"] == "range_not_satisfiable"
            assert answer.headers["content-range"] == f"bytes */{len(whole)}"
            return
        assert await answer.read() == whole[first : None if last is None else last + 1]
        if status == 206:
            start = first % len(whole)
            end = len(whole) - 1 if last is None else last
            assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(whole)}"


@pytest.mark.parametrize("header", ["bytes=0-3", "bytes=999999999-"])
async def test_a_range_is_for_get_alone(
    stranger: aiohttp.ClientSession, image: ImageRecord, link: str, header: str
) -> None:
    """HEAD tells of the whole picture, whatever range is asked for (RFC 9110, 14.2)."""
    async with stranger, stranger.head(link, headers={"range": header}) as answer:
        assert answer.status == 200
        assert "content-range" not in answer.headers
        assert int(answer.headers["content-length"]) == image.blob.bytes


async def test_conditional_requests(
    stranger: aiohttp.ClientSession, image: ImageRecord, link: str
) -> None:
    """The ETag is the digest; a range of another version is not mixed in."""
    async with stranger:
        async with stranger.head(link) as answer:
            etag = answer.headers["etag"]
            assert etag == f'"{image.blob.digest}"'
            assert int(answer.headers["content-length"]) == image.blob.bytes
        async with stranger.get(link, headers={"if-none-match": f'"x", W/{etag}'}) as answer:
            assert answer.status == 304
        for condition, status in ((etag, 206), ('"other"', 200)):
            headers = {"range": "bytes=0-3", "if-range": condition}
            async with stranger.get(link, headers=headers) as answer:
                assert answer.status == status


async def test_the_stable_link_signs_on_read(
    http: aiohttp.ClientSession, server: Server, image: ImageRecord
) -> None:
    """The owner is sent to a fresh link; everybody else gets the 404 of what is not there."""
    async with http.get(f"/v1/images/{image.id}", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["cache-control"]) == (302, "no-store")
        assert answer.headers["location"].startswith(f"{server.url}/i/{image.id}.png?")
    async with http.get(f"/v1/images/{image.id}") as answer:
        assert await answer.read() == png(40, 30)
    others = {"authorization": f"Bearer {OTHER_KEY}"}
    for path, headers in ((image.id, others), ("0" * 32, {}), ("..%2fx", {})):
        async with http.get(f"/v1/images/{path}", headers=headers) as answer:
            assert answer.status == 404
            assert "error" in await answer.json()


async def test_the_operator_may_send_callers_to_the_store(
    server: Server, stranger: aiohttp.ClientSession, image: ImageRecord, link: str
) -> None:
    """Only whole and partial GETs: what can be answered without bytes is answered here."""
    assert isinstance(server.services.storage, MemoryStore)
    server.services.storage.elsewhere = "https://bucket.test"
    async with stranger:
        async with stranger.get(link, allow_redirects=False) as answer:
            assert answer.status == 200, "a store with addresses does not decide that"
        storage = msgspec.structs.replace(server.services.config.storage, serve="redirect")
        config = msgspec.structs.replace(server.services.config, storage=storage)
        object.__setattr__(server.services, "config", config)
        async with stranger.get(link, allow_redirects=False) as answer:
            assert answer.status == 302
            assert answer.headers["location"] == f"https://bucket.test/{image.blob.digest}?s=300"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
        ranged = {"Range": "bytes=0-3"}
        async with stranger.get(link, headers=ranged, allow_redirects=False) as answer:
            assert answer.status == 302
        async with stranger.head(link, allow_redirects=False) as answer:
            assert answer.status == 200
            etag = answer.headers["etag"]
        async with stranger.get(link, headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304
        async with stranger.get(link, headers={"Range": "bytes=99999-"}) as answer:
            assert answer.status == 416
        async with stranger.get(link + "0", allow_redirects=False) as answer:
            assert answer.status == 404


async def test_a_picture_is_pinned_unpinned_and_deleted_by_its_owner_alone(
    server: Server, image: ImageRecord, link: str
) -> None:
    """To others there is none of that id; to its owner a deleted one is 410, its link 404."""
    mine, other = (
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {key}"})
        for key in (KEY, OTHER_KEY)
    )
    path = f"/v1/images/{image.id}"
    async with mine, other:
        for method, target in (("POST", "/pin"), ("POST", "/unpin"), ("DELETE", ""), ("GET", "")):
            async with other.request(method, path + target, allow_redirects=False) as answer:
                assert answer.status == 404
                assert (await answer.json())["error"]["code"] == "not_found"
        async with mine.post(path + "/pin") as answer:
            found = await answer.json()
            assert (answer.status, found["pinned"], found["kept_until"]) == (200, True, None)
            assert found["sha256"] == image.blob.digest
        async with mine.post(path + "/unpin") as answer:
            assert (await answer.json())["pinned"] is False
        for _ in range(2):
            async with mine.delete(path) as answer:
                assert answer.status == 200
                assert await answer.json() == {
                    "id": image.id,
                    "object": "image",
                    "deleted": True,
                }
        for method, target in (("POST", "/pin"), ("POST", "/unpin"), ("GET", "")):
            async with mine.request(method, path + target, allow_redirects=False) as answer:
                assert answer.status == 410
                assert (await answer.json())["error"]["code"] == "image_deleted"
        async with mine.delete("/v1/images/nothing") as answer:
            assert answer.status == 404


@pytest.mark.parametrize(("left_s", "lives_s"), [(10, 10), (90_000, 86_400), (-5, 1)])
async def test_no_link_promises_more_time_than_its_picture_has(
    server: Server, image: ImageRecord, left_s: int, lives_s: int
) -> None:
    """A pinned picture's link lives as long as any."""
    now_s = server.clock.now_ms() // 1000
    links = server.services.links
    until_ms = (now_s + left_s) * 1000
    assert links.end_s(ttl_s=86_400, until_ms=until_ms) == now_s + lives_s
    going = msgspec.structs.replace(image, expires_at=until_ms)
    assert f"?e={now_s + min(lives_s, image.link_ttl_s)}&" in link_at("", links, going)
    pinned = msgspec.structs.replace(going, pinned=True)
    assert f"?e={now_s + image.link_ttl_s}&" in link_at("", links, pinned)

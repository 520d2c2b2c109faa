"""Bringing a picture home: whole or not at all, whatever happens on the way."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from client_api.scripted import PNG, Pauses, Play, Scripted, error
from safelight.client import AsyncClient, BrokenPicture, Picture, Refused

DIGEST = hashlib.sha256(PNG).hexdigest()


def linked(server: Scripted, name: str = "a.png", **more: Any) -> Picture:
    return Picture(link=f"{server.url}/i/{name}", **more)


def job(link: str) -> dict[str, Any]:
    image = {
        "id": "img_1",
        "url": link,
        "sha256": DIGEST,
        "bytes": len(PNG),
        "width": 1,
        "height": 1,
        "format": "png",
    }
    return {
        "id": "job_1",
        "status": "completed",
        "created_at": 1,
        "completed_at": 3,
        "model": "m",
        "image": image,
    }


async def test_a_picture_is_streamed_into_its_file(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    scripted.play("/i/a.png", Play(body=PNG))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        saved = await client.save(linked(scripted, sha256=DIGEST), tmp_path / "a.png")
    assert saved.path.read_bytes() == PNG
    assert (saved.sha256, saved.bytes, saved.mime) == (DIGEST, len(PNG), "image/png")
    assert (saved.width, saved.height) == (1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


async def test_links_are_never_given_the_key(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    scripted.play("/i/a.png", Play(302, headers={"location": f"{scripted.url}/kept.png"}))
    scripted.play("/kept.png", Play(body=PNG))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        await client.save(linked(scripted), tmp_path / "a.png")
    assert [asked.path for asked in scripted.asked] == ["/i/a.png", "/kept.png"]
    assert all("authorization" not in asked.headers for asked in scripted.asked)


@pytest.mark.parametrize(
    "spoilt",
    [
        Play(body=PNG[:40], cut=True),
        Play(503),
        Play(body=b"<html>not here</html>"),
        Play(body=PNG[:-1] + b"\x00"),
    ],
    ids=["cut", "away", "a page", "another digest"],
)
async def test_what_came_badly_is_fetched_again(
    scripted: Scripted, pauses: Pauses, tmp_path: Path, spoilt: Play
) -> None:
    scripted.play("/i/a.png", spoilt, Play(body=PNG))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        saved = await client.save(linked(scripted, sha256=DIGEST), tmp_path / "a.png")
    assert saved.sha256 == DIGEST
    assert (client.figures.downloads, client.figures.downloads_ok) == (2, 1)
    assert client.figures.download_success_rate == 0.5


async def test_what_stays_broken_leaves_nothing_behind_and_keeps_what_was_there(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"earlier")
    scripted.play("/i/a.png", Play(body=PNG + b"more"))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        with pytest.raises(BrokenPicture, match="not those of job_1"):
            await client.save(linked(scripted, sha256=DIGEST, job_id="job_1"), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"earlier"
    assert client.figures.downloads == 4


async def test_an_expired_link_is_asked_anew_from_the_job(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    scripted.play("/i/a.png", error(404, "not_found"))
    scripted.play("/i/fresh.png", Play(body=PNG))
    scripted.play("/v1/jobs/job_1", Play(body=job(f"{scripted.url}/i/fresh.png")))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        saved = await client.save(linked(scripted, job_id="job_1"), tmp_path / "a.png")
    assert saved.sha256 == DIGEST


async def test_a_link_that_no_job_knows_is_refused_as_it_is(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    scripted.play("/i/a.png", error(404, "not_found"))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        with pytest.raises(Refused):
            await client.save(linked(scripted), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


async def test_bytes_are_saved_like_links(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        saved = await client.save(Picture(data=PNG), tmp_path / "a.png")
    assert saved.path.read_bytes() == PNG
    assert scripted.asked == []
    assert client.figures.download_success_rate == 1.0


@pytest.mark.parametrize(
    ("given", "written"),
    [("lamp", "lamp.png"), ("style-1.5", "style-1.5.png"), ("lamp.PNG", "lamp.PNG")],
)
async def test_a_name_without_an_ending_gets_the_right_one(
    scripted: Scripted, pauses: Pauses, tmp_path: Path, given: str, written: str
) -> None:
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        saved = await client.save(Picture(data=PNG), tmp_path / given)
    assert saved.path.name == written


async def test_a_folder_that_is_not_there_is_the_systems_error(
    scripted: Scripted, pauses: Pauses, tmp_path: Path
) -> None:
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        with pytest.raises(FileNotFoundError):
            await client.save(Picture(data=PNG), tmp_path / "no" / "a.png")
    assert pauses.seconds == []


@pytest.mark.parametrize("where", ["b64_json", "url"])
async def test_a_data_address_is_a_picture(scripted: Scripted, pauses: Pauses, where: str) -> None:
    address = "data:image/png;base64," + base64.b64encode(PNG).decode()
    answer = Play(body={"created": 1, "data": [{where: address}]})
    scripted.play("/v1/images/generations", answer)
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        picture = await client.generate("a lamp")
    assert (picture.data, picture.link, picture.size) == (PNG, None, "1x1")

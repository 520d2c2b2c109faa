"""New pixels say how they were made; a picture that is delivered as it came keeps every byte."""

from __future__ import annotations

import hashlib
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from e2e.in_process import running
from safelight.bench.faults.pictures import encoded
from safelight.images.provenance import TRAINED, VOCABULARY, packet
from safelight.images.rendering import render
from safelight.images.signing import signed
from safelight.images.structure import verify
from safelight.office import Office
from safelight.types import ImageFormat, PlanMethod, SizePlan

_PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
FORMS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")


def _plan(method: PlanMethod, width: int, height: int, canvas: tuple[int, int]) -> SizePlan:
    return SizePlan(
        method=method,
        width=width,
        height=height,
        canvas_width=canvas[0],
        canvas_height=canvas[1],
    )


def _stated(path: Path) -> list[str]:
    """Return what another library finds: the property in the packet that Pillow gives."""
    with Image.open(path) as image:
        image.load()
        info: dict[Any, Any] = {**image.info, **getattr(image, "text", {})}
    text = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    raw = text.encode() if isinstance(text, str) else text
    if not raw:
        return []
    root = ET.fromstring(raw.decode("utf-8"))  # noqa: S314  (our own packet)
    return [one.attrib[_PROPERTY] for one in root.iter(f"{_RDF}Description")]


def _signed_png(data: bytes) -> bytes:
    """Return a PNG with a chunk as C2PA has it (C2PA specification, "Embedding": caBX)."""
    body = b"caBX" + b"jumb" + b"a manifest that somebody has signed" * 9
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "plan",
    [
        _plan(PlanMethod.CROP, 50, 40, (64, 48)),
        _plan(PlanMethod.RESAMPLE, 128, 96, (64, 48)),
    ],
    ids=["cropped", "resampled"],
)
def test_new_pixels_carry_the_digital_source_type(
    tmp_path: Path, form: ImageFormat, plan: SizePlan
) -> None:
    source, target = tmp_path / "answer", tmp_path / f"made.{form}"
    source.write_bytes(_signed_png(encoded(64, 48, "png")))
    render(source, target, plan, form, None)
    assert _stated(target) == [VOCABULARY + TRAINED]
    assert verify(target).width == plan.width
    assert b"caBX" not in target.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_in_another_format_carries_it_too(tmp_path: Path, form: ImageFormat) -> None:
    source, target = tmp_path / "answer", tmp_path / f"made.{form}"
    source.write_bytes(encoded(64, 48, "webp" if form == "png" else "png"))
    render(source, target, _plan(PlanMethod.NATIVE, 64, 48, (64, 48)), form, 80)
    assert _stated(target) == [VOCABULARY + TRAINED]


def test_a_native_picture_keeps_the_vendors_signature_byte_for_byte(tmp_path: Path) -> None:
    signed = _signed_png(encoded(64, 48, "png"))
    source, target = tmp_path / "answer", tmp_path / "same.png"
    source.write_bytes(signed)
    assert verify(source).format == "png"
    render(source, target, _plan(PlanMethod.NATIVE, 64, 48, (64, 48)), "png", None)
    assert target.read_bytes() == signed


@pytest.mark.parametrize("kind", ["algorithmicMedia", "compositeWithTrainedAlgorithmicMedia"])
def test_what_the_source_states_of_its_making_is_kept_and_nothing_else(kind: str) -> None:
    made = packet(f'<x kind="{VOCABULARY}{kind}" by="somebody"/>'.encode())
    assert f'"{VOCABULARY}{kind}"'.encode() in made
    assert b"somebody" not in made


def test_a_source_that_calls_itself_a_photograph_is_not_believed() -> None:
    assert TRAINED.encode() in packet(f"{VOCABULARY}digitalCapture".encode())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (_signed_png(encoded(64, 48, "png")), True),
        (encoded(64, 48, "png"), False),
        (encoded(64, 48, "jpeg"), False),
        (encoded(64, 48, "jpeg")[:2] + b"\xff\xeb\x00\x12JP..jumb..c2pa..", True),
        (encoded(64, 48, "webp") + b"C2PA\0\0\0\0", True),
        (b"caBX jumb c2pa C2PA", False),
    ],
)
def test_a_signed_file_is_told_by_its_format_s_own_mark(
    tmp_path: Path, data: bytes, found: bool
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert signed(tmp_path / "file") is found


async def test_the_original_is_its_owners_and_lives_and_dies_with_its_picture(
    tmp_path: Path,
) -> None:
    """A resampled proof, kept with `originals = "all"`: receipt, route, strangers, deletion."""
    config = '[retention]\noriginals = "all"\n'
    async with running(tmp_path / "data", config) as gateway:
        body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1820x1024"}
        made = await gateway.ask("POST", "/v1/images/generations", body)
        job = (await gateway.ask("GET", f"/v1/jobs/{made.headers['x-safelight-job-id']}")).json()
        receipt = (await gateway.ask("GET", f"/v1/jobs/{job['id']}/receipt")).json()
        told = receipt["image"]
        assert receipt["size_plan"]["method"] != "native"
        assert told["original_sha256"] != told["sha256"]
        target = f"/v1/images/{job['image']['id']}/original"
        answer = await gateway.ask("GET", target)
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        assert hashlib.sha256(answer.body).hexdigest() == told["original_sha256"]
        office = Office(gateway.app.db, gateway.app.keyring)
        stranger = await office.create_customer_key("stranger", 0)
        assert (await gateway.ask("GET", target, key=stranger)).status == 404
        assert await gateway.app.store.exists(told["original_sha256"])
        await gateway.ask("DELETE", f"/v1/images/{job['image']['id']}")
        assert (await gateway.ask("GET", target)).status == 410
        assert not await gateway.app.store.exists(told["original_sha256"])


async def test_nothing_is_kept_twice_where_nobody_has_signed_it(tmp_path: Path) -> None:
    """By default: the digest of the original is told, its bytes are not stored."""
    async with running(tmp_path) as gateway:
        body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1820x1024"}
        made = await gateway.ask("POST", "/v1/images/generations", body)
        job = (await gateway.ask("GET", f"/v1/jobs/{made.headers['x-safelight-job-id']}")).json()
        assert (await gateway.ask("GET", f"/v1/images/{job['image']['id']}/original")).status == 404
        receipt = (await gateway.ask("GET", f"/v1/jobs/{job['id']}/receipt")).json()
        assert len(receipt["image"]["original_sha256"]) == 64

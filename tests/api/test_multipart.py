"""Hand-made forms, good and hostile (failure catalogue C16)."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.api.multipart import Form, FormReader, SpoolFolder, boundary_of
from safelight.errors import InvalidRequest, InvalidValue, RequestTooLarge, SafelightError

B = b"--XX\r\n"
END = b"--XX--\r\n"


def part(disposition: bytes, data: bytes, *headers: bytes) -> bytes:
    """Return one part of a form with boundary XX."""
    head = b"".join(
        line + b"\r\n" for line in (b"Content-Disposition: form-data; " + disposition, *headers)
    )
    return B + head + b"\r\n" + data + b"\r\n"


def read(body: bytes, folder: Path, *, step: int = 0, max_file_bytes: int = 1000) -> Form:
    """Read a form, whole or in pieces of `step` bytes."""
    with (
        SpoolFolder(folder) as spool,
        FormReader(
            b"XX",
            spool=spool,
            picture_fields=lambda name: name.startswith(("image", "mask")),
            max_file_bytes=max_file_bytes,
        ) as reader,
    ):
        for at in range(0, len(body), step or len(body) or 1):
            reader.feed(body[at : at + (step or len(body))])
        form = reader.finish()
        for file in form.files:
            assert file.path.parent == folder
            file.name += "=" + file.path.read_bytes().decode("latin-1")
        return form


GOOD = (
    part(b'name="prompt"', "blau\r\nund rot \u2713".encode())
    + part(b'name="image[]"; filename="../../etc/passwd"', b"\r\n--X\r\nraw\x00\xff")
    + part(b'name="image[]"; filename="b.png"', b"", b"Content-Type: application/octet-stream")
    + part(b'name="image"', b"data:,x")
    + END
)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 64])
def test_a_form_is_the_same_in_any_pieces(tmp_path: Path, step: int) -> None:
    """Texts and files come out in order, byte for byte, however the body is cut."""
    form = read(GOOD, tmp_path, step=step)
    assert form.texts == [("prompt", "blau\r\nund rot \u2713")]
    assert [file.name for file in form.files] == [
        "image[]=\r\n--X\r\nraw\x00\xff",
        "image[]=",
        "image=data:,x",
    ]
    assert [file.is_text for file in form.files] == [False, False, True]


@pytest.mark.parametrize("size", [8192, 8193, 100_000])
def test_a_file_has_a_place_on_the_disk_once_8_kb_of_it_came(tmp_path: Path, size: int) -> None:
    """A crowd that begins to send files, and sends no more, makes none."""
    body = part(b'name="image"; filename="x"', b"y" * size) + END
    before = body.index(b"yy") + 8192
    with (
        SpoolFolder(tmp_path) as spool,
        FormReader(
            b"XX", spool=spool, picture_fields=lambda _: True, max_file_bytes=size
        ) as reader,
    ):
        reader.feed(body[:before])
        assert list(tmp_path.iterdir()) == []
        reader.feed(body[before:])
        [file] = reader.finish().files
        assert file.path.read_bytes() == b"y" * size
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("preamble", [b"\r\n", b"For readers without MIME.\r\n--X\r\n", b"--X\r\n"])
def test_a_preamble_is_passed_over(tmp_path: Path, preamble: bytes, step: int) -> None:
    """RFC 2046 allows text before the first boundary."""
    form, plain = read(preamble + GOOD, tmp_path, step=step), read(GOOD, tmp_path)
    assert form.texts == plain.texts
    assert [file.name for file in form.files] == [file.name for file in plain.files]


def test_the_eighteenth_file_is_named(tmp_path: Path) -> None:
    """Too many files are a 400 about `image`, as a list of too many pictures is."""
    body = part(b'name="image"; filename="x"', b"1") * 18 + END
    with pytest.raises(InvalidValue, match="at most 16 pictures and a mask") as caught:
        read(body, tmp_path)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "image")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    """Spool files are ours by name and gone afterwards, also after a refusal."""
    read(GOOD, tmp_path)
    with pytest.raises(InvalidRequest):
        read(GOOD[:-8], tmp_path)
    assert list(tmp_path.iterdir()) == []


HOSTILE = {
    "empty": b"",
    "garbage": b"\x00\xff" * 50,
    "no terminator": part(b'name="a"', b"1"),
    "cut in a header": B + b"Content-Dispo",
    "cut in data": part(b'name="a"', b"1")[:-3],
    "other boundary": b"--YY\r\n\r\n\r\n--YY--\r\n",
    "no disposition": B + b"Content-Type: text/plain\r\n\r\nx\r\n" + END,
    "no name": part(b'filename="x"', b"1") + END,
    "empty name": part(b'name=""', b"1") + END,
    "long name": part(b'name="' + b"n" * 500 + b'"', b"1") + END,
    "attachment": B + b'Content-Disposition: attachment; name="a"\r\n\r\nx\r\n' + END,
    "65 parts": part(b'name="a"', b"1") * 65 + END,
    "endless preamble": b"x" * 20_000 + B,
    "17 headers": part(b'name="a"', b"1", *(b"X-%d: 1" % n for n in range(17))) + END,
    "10k headers": part(b'name="a"', b"1", *(b"X-%d: 1" % n for n in range(10_000))) + END,
    "5 kB header": part(b'name="a"', b"1", b"X: " + b"y" * 5000) + END,
    "header without end": B + b"X: " + b"y" * 100_000,
    "same header twice": part(b'name="a"', b"1", b"Content-Disposition: form-data") + END,
    "base64 part": part(b'name="a"', b"1", b"Content-Transfer-Encoding: base64") + END,
    "name is not utf-8": part(b'name="\xff"', b"1") + END,
    "text is not utf-8": part(b'name="a"', b"\xff") + END,
    "text with nul": part(b'name="a"', b"\x00") + END,
    "bad header character": B + b"Con(tent: x\r\n\r\n1\r\n" + END,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("step", [0, 1000, 1])
def test_hostile_forms_are_refused(tmp_path: Path, body: bytes, step: int) -> None:
    """Each is a 400 in any pieces, and leaves nothing on disk."""
    with pytest.raises(SafelightError) as caught:
        read(body, tmp_path, step=step)
    assert (caught.value.status, caught.value.code) == (400, "invalid_multipart")
    assert list(tmp_path.iterdir()) == []


def test_a_file_over_the_limit_is_a_413(tmp_path: Path) -> None:
    """The limit counts one file's bytes, and names the field."""
    body = part(b'name="image"; filename="x"', b"1" * 1001) + END
    with pytest.raises(RequestTooLarge) as caught:
        read(body, tmp_path)
    assert caught.value.param == "image"
    assert read(body, tmp_path, max_file_bytes=1001).files[0].size == 1001


def test_a_text_over_the_limit_is_a_413(tmp_path: Path) -> None:
    """Text fields live in memory and are capped."""
    body = part(b'name="prompt"', b"x" * 300_000) + END
    with pytest.raises(RequestTooLarge):
        read(body, tmp_path, step=5000)
    many = part(b'name="a"', b"x" * 200_000) * 6 + END
    with pytest.raises(RequestTooLarge):
        read(many, tmp_path)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 1_000_000,
    ],
)
def test_a_boundary_must_be_usable(content_type: str) -> None:
    """No boundary and an absurd one are a 400."""
    with pytest.raises(InvalidRequest):
        boundary_of(content_type)


def test_a_quoted_boundary_is_read() -> None:
    """Both spellings of RFC 2046 are taken."""
    assert boundary_of('multipart/form-data; charset=utf-8; boundary="a b"') == b"a b"
    assert boundary_of("multipart/form-data; boundary=ab") == b"ab"

"""What comes from outside is read or refused, whatever it is: errors, events, headers of files."""

from __future__ import annotations

import email.utils
import itertools
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_api.scripted import PNG
from safelight.client import Answered, Figures, OutOfMoney, RateLimited, Refused, ServiceFailed
from safelight.client.pictures import measure
from safelight.client.refusals import refusal, retry_after_s
from safelight.client.sse import Frame, frames

EVENTS = (
    b": hello\n\nid: 1\nevent: a\ndata: one\n\nretry: 1000\n\ndata: two\r\ndata:three\r\n\r\n"
    b"event: only a name\n\nid: 3\ndata: cut"
)


async def read(chunks: list[bytes]) -> list[Frame]:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [frame async for frame in frames(coming())]


@given(st.lists(st.integers(0, len(EVENTS)), max_size=12))
async def test_events_are_the_same_however_they_are_cut_into_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(EVENTS)]
    pieces = [EVENTS[a:b] for a, b in itertools.pairwise(edges)]
    assert await read(pieces) == [Frame(b"one", "a", "1"), Frame(b"two\nthree")]


@given(st.integers(400, 599), st.binary(max_size=300), st.text(max_size=30))
def test_every_error_answer_is_one_typed_error(status: int, body: bytes, after: str) -> None:
    error = refusal(status, {"retry-after": after, "content-type": "text/html"}, body)
    assert isinstance(error, Answered)
    assert error.status == status
    assert error.message


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error": "a plain word"}', Refused),
        (400, b'{"error": {"message": 5, "code": [], "param": {}}}', Refused),
        (402, b"", OutOfMoney),
        (403, b'{"error": {"code": "billing_hard_limit_reached"}}', OutOfMoney),
        (429, b'{"error": {"type": "insufficient_quota"}}', OutOfMoney),
        (429, b"{}", RateLimited),
        (408, b"[]", ServiceFailed),
        (599, b"\xff\xfe", ServiceFailed),
    ],
)
def test_errors_are_sorted_by_what_a_caller_would_do(
    status: int, body: bytes, kind: type[Answered]
) -> None:
    assert type(refusal(status, {}, body)) is kind


def test_the_parameter_is_named_where_the_message_does_not() -> None:
    body = b'{"error": {"message": "Too large.", "param": "image[3]"}}'
    assert str(refusal(400, {}, body)) == "Too large. (image[3])"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("1.5", 1.5), ("0", 0.5), ("-3", 0.5), ("", None), ("soon", None), ("nan", 0.5)],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": text}) == seconds


def test_retry_after_as_a_date() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after_s({"retry-after": later}) == pytest.approx(30, abs=2)
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.5


@given(
    st.sampled_from([b"", PNG[:8], b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBP"]),
    st.binary(max_size=200),
)
def test_no_file_confuses_the_measuring(start: bytes, rest: bytes) -> None:
    try:
        found = measure(start + rest)
    except ValueError:
        return
    assert found.mime.startswith("image/")
    assert min(found.width, found.height) >= 0


def test_figures_add_up_and_come_back_from_a_manifest() -> None:
    one = Figures(pictures=1, generation_s=2.0, tries=3, server_errors=1)
    two = Figures(pictures=3, generation_s=10.0, tries=3, downloads=4, downloads_ok=3)
    both = one + two
    assert (both.mean_generation_s, both.download_success_rate) == (3.0, 0.75)
    assert both.server_error_rate == pytest.approx(1 / 6)
    assert both - two == one
    assert Figures.of(both.as_dict()) == both
    assert str(both) == "mean generation 3.0 s, 5xx 16.7%, downloads 75.0%"
    assert str(Figures()) == "mean generation -, 5xx -, downloads -"

"""Parameters of the image routes and of chat, without HTTP."""

from __future__ import annotations

import time
from typing import Any

import pytest

from safelight.api.chat_wire import parse_chat, read_conversation, size_of
from safelight.api.wire import (
    EditBody,
    GenerationBody,
    QuoteBody,
    coerce_form,
    image_request,
    parse_fields,
    present,
)
from safelight.errors import InvalidRequest, SafelightError
from safelight.types import Operation

BASE = {"model": "m", "prompt": "p"}


def test_null_means_absent() -> None:
    """Nulls are dropped, so they count neither as values nor as given."""
    fields = present({**BASE, "n": None, "quality": None, "style": None, "seed": None})
    assert fields == BASE
    body = parse_fields(fields, GenerationBody)
    assert (body.n, body.quality) == (None, None)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_required_parameter", "model"),
        ({"model": "m"}, "missing_required_parameter", "prompt"),
        ({**BASE, "prompt": 3}, "invalid_type", "prompt"),
        ({**BASE, "prompt": ""}, "invalid_value", "prompt"),
        ({**BASE, "prompt": "x" * 32_001}, "invalid_value", "prompt"),
        ({**BASE, "model": ["m"]}, "invalid_type", "model"),
        ({**BASE, "n": "1"}, "invalid_type", "n"),
        ({**BASE, "n": True}, "invalid_type", "n"),
        ({**BASE, "n": 1.5}, "invalid_type", "n"),
        ({**BASE, "n": 0}, "invalid_value", "n"),
        ({**BASE, "stream": "true"}, "invalid_type", "stream"),
        ({**BASE, "partial_images": 4}, "invalid_value", "partial_images"),
        ({**BASE, "output_compression": 101}, "invalid_value", "output_compression"),
        ({**BASE, "output_format": "gif"}, "invalid_value", "output_format"),
        ({**BASE, "background": "pink"}, "invalid_value", "background"),
        ({**BASE, "response_format": "file"}, "invalid_value", "response_format"),
        ({**BASE, "style": "vivid"}, "unsupported_parameter", "style"),
        ({**BASE, "svg": {}}, "unsupported_parameter", "svg"),
        ({**BASE, "seed": 1}, "unknown_parameter", "seed"),
        ({**BASE, "image": "x"}, "unsupported_parameter", "image"),
        ({**BASE, "input_fidelity": "high"}, "unsupported_parameter", "input_fidelity"),
        ({**BASE, "api_base": "http://x"}, "unknown_parameter", "api_base"),
        ({**BASE, "x" * 500: 1}, "unknown_parameter", "x" * 64 + "\u2026"),
    ],
)
def test_refusals_name_the_parameter(fields: dict[str, Any], code: str, param: str) -> None:
    """Code and parameter follow the contract; the message is short."""
    with pytest.raises(InvalidRequest) as caught:
        parse_fields(fields, GenerationBody)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
    assert len(caught.value.message) < 200


def test_messages_speak_json() -> None:
    """Types and bounds are said in a caller's words."""
    with pytest.raises(InvalidRequest, match="Invalid type for 'n': expected integer"):
        parse_fields({**BASE, "n": "1"}, GenerationBody)
    with pytest.raises(InvalidRequest, match="Invalid value for 'n': it is integer >= 1"):
        parse_fields({**BASE, "n": 0}, GenerationBody)
    with pytest.raises(InvalidRequest, match="one of png, jpeg, webp"):
        parse_fields({**BASE, "output_format": "gif"}, GenerationBody)
    with pytest.raises(InvalidRequest, match="Invalid value for 'prompt': it is empty"):
        parse_fields({**BASE, "prompt": ""}, GenerationBody)
    with pytest.raises(InvalidRequest, match="'prompt': it has more than 32000 characters"):
        parse_fields({**BASE, "prompt": "x" * 32_001}, GenerationBody)
    with pytest.raises(InvalidRequest, match="'messages': it has more than 1000 items"):
        parse_chat({"model": "m", "messages": [{}] * 1001})
    with pytest.raises(InvalidRequest, match=r"'image' belongs to edits.*/v1/images/edits"):
        parse_fields({**BASE, "image": "x"}, GenerationBody)


def test_nested_errors_name_their_place() -> None:
    """The second picture of a list is `images[1]`."""
    with pytest.raises(InvalidRequest) as caught:
        parse_fields({**BASE, "images": ["x", 3]}, EditBody)
    assert caught.value.param == "images[1]"


def test_form_values_become_json_values() -> None:
    """Numbers and booleans are read, text stays text, empty options are absent."""
    fields = coerce_form(
        [
            ("prompt", "1"),
            ("model", "2"),
            ("n", "3"),
            ("stream", "True"),
            ("size", ""),
            ("partial_images", "many"),
        ],
        EditBody,
    )
    assert fields == {
        "prompt": "1",
        "model": "2",
        "n": 3,
        "stream": True,
        "partial_images": "many",
    }
    with pytest.raises(InvalidRequest) as caught:
        parse_fields(fields, EditBody)
    assert (caught.value.code, caught.value.param) == ("invalid_type", "partial_images")


def test_a_form_field_twice_is_refused() -> None:
    """Which of both would count is nobody's guess."""
    with pytest.raises(InvalidRequest) as caught:
        coerce_form([("prompt", "a"), ("prompt", "b")], EditBody)
    assert caught.value.param == "prompt"


def test_an_unknown_form_field_in_parts_is_unknown() -> None:
    """An SDK sends a nested extra as `foo[a]` and `foo[b]`: there is no `foo`."""
    with pytest.raises(InvalidRequest, match="Unknown parameter: 'foo'") as caught:
        coerce_form([("prompt", "a"), ("foo[a]", "1"), ("foo[b]", "2")], EditBody)
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "foo")


def test_the_safety_identifier_wins_over_user() -> None:
    """Both name the end user; the newer one counts, unless it is empty."""
    body = parse_fields({**BASE, "user": "a", "safety_identifier": "b"}, GenerationBody)
    assert image_request(body, Operation.GENERATION, size="auto").user == "b"
    body = parse_fields({**BASE, "user": "a", "safety_identifier": ""}, GenerationBody)
    assert image_request(body, Operation.GENERATION, size="auto").user == "a"


def test_partial_images_count_only_in_a_stream() -> None:
    """Without a stream nobody would see them, so the order is the same as without."""
    body = parse_fields({**BASE, "partial_images": 2}, GenerationBody)
    assert image_request(body, Operation.GENERATION, size="auto").partial_images == 0
    body = parse_fields({**BASE, "partial_images": 2, "stream": True}, GenerationBody)
    assert image_request(body, Operation.GENERATION, size="auto").partial_images == 2


def test_a_quote_needs_no_prompt() -> None:
    """Price and plan do not depend on words."""
    body = parse_fields({"model": "m", "inputs": 2}, QuoteBody)
    assert image_request(body, Operation.EDIT, size="auto").prompt


def test_chat_ignores_what_steers_text() -> None:
    """Standard chat parameters of any type are no error; unknown ones are."""
    body = parse_chat(
        {
            "model": "m",
            "messages": [{"role": "user", "content": "x"}],
            "temperature": 0.2,
            "tools": [{"type": "function"}],
            "response_format": {"type": "text"},
            "max_tokens": 5,
            "provider": {"order": ["a"]},
            "transforms": ["middle-out"],
            "models": ["a", "b"],
            "plugins": [{"id": "web"}],
            "usage": {"include": True},
        }
    )
    assert body.model == "m"
    for name in ("api_key", "base_url", "surprise"):
        with pytest.raises(InvalidRequest) as caught:
            parse_chat({"model": "m", "messages": [{}], name: "x"})
        assert caught.value.param == name


@pytest.mark.parametrize(
    ("extra", "size"),
    [
        ({}, "auto"),
        ({"size": "1024x1024"}, "1024x1024"),
        ({"image_config": {"aspect_ratio": "16:9", "image_size": "4K"}}, "16:9@4K"),
        ({"image_config": {"aspect_ratio": "16:9"}}, "16:9@2K"),
        ({"image_config": {"image_size": "1K"}}, "1:1@1K"),
        ({"image_config": {"aspect_ratio": "1:1"}, "size": "auto"}, "auto"),
        ({"image_config": {}}, "auto"),
    ],
)
def test_chat_sizes(extra: dict[str, Any], size: str) -> None:
    """`size` counts first, then OpenRouter's `image_config`."""
    fields = {"model": "m", "messages": [{"role": "user", "content": "x"}], **extra}
    assert size_of(parse_chat(fields)) == size


def user(text: str, *urls: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": parts}


def urls_of(*messages: dict[str, Any]) -> list[str]:
    return [picture.url for picture in read_conversation(list(messages)).pictures]


def test_assistant_pictures_in_every_form() -> None:
    """Of `images`, content parts and links the first that is there counts."""
    link = "![image](/i/a.png) and ![again](<data:image/png;base64,AAAA> 'title')"
    item = {"type": "image_url", "image_url": {"url": "data:c"}}
    turn = {"role": "assistant", "content": link, "images": [item]}
    assert urls_of(turn, user("x")) == ["data:c"]
    turn = {"role": "assistant", "content": [{"type": "text", "text": link}, item]}
    assert urls_of(turn, user("x")) == ["data:c"]
    turn = {"role": "assistant", "content": link}
    assert urls_of(turn, user("x")) == ["/i/a.png", "data:image/png;base64,AAAA"]


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("![](/i/a.png)", ["/i/a.png"]),
        (
            "![a b](https://x.example/i/a.png?e=1&k=k1&s=_-x)",
            ["https://x.example/i/a.png?e=1&k=k1&s=_-x"],
        ),
        ('![x]( </i/a.png> "a title" )', ["/i/a.png"]),
        ("![x](DATA:image/png;base64,QUJD+/==)", ["DATA:image/png;base64,QUJD+/=="]),
        ("![![x](/i/a.png)![y](/i/b.png)", ["/i/a.png", "/i/b.png"]),
        ("![x](data:image/png;base64,QU!JD)", ["data:image/png;base64,QU!JD"]),
        ("![x](data:image/png;base64," + "A" * 3000, []),
        ("![x](/i/" + "a" * 3000 + ")", []),
        ("![x] (/i/a.png) ![x](/i/a.png", []),
    ],
)
def test_markdown_pictures(text: str, urls: list[str]) -> None:
    """Addresses in every form that chat clients write; what is cut off is none."""
    assert urls_of({"role": "assistant", "content": text}, user("x")) == urls


@pytest.mark.parametrize(
    "piece",
    [
        *("![](data:", "![](data:a,", "![](data:a,AAAA", "![](", "![", "![](        ", "![](x   "),
        "![](data:image/png;base64," + "A" * 900,
        "![" + "a" * 199 + "](",
    ],
)
def test_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    """Unfinished links side by side are read once, not once for each of them.

    A hundred times the length that took a backtracking pattern eight seconds; the bound is far
    above what a slow machine needs.
    """
    text = (piece * (720_000 // len(piece) + 1))[:720_000]
    began_s = time.process_time()
    assert urls_of({"role": "assistant", "content": text}, user("x")) == []
    assert time.process_time() - began_s < 4


def test_old_turns_may_hold_parts_of_other_kinds() -> None:
    """A history is sent as it is; only what the newest user message holds must be understood."""
    thought = {"type": "thinking", "thinking": "hm"}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}
    sound = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    answer = {"role": "assistant", "content": [thought, {"type": "text", "text": "![](/i/1)"}]}
    asked = user("a", "data:u1")
    asked["content"] += [file, sound]
    assert urls_of(asked, answer, user("b")) == ["/i/1"]
    with pytest.raises(InvalidRequest) as caught:
        urls_of(answer, asked)
    assert caught.value.param == "messages[1].content[2]"


def test_pictures_are_ordered_newest_answer_first() -> None:
    """Then come the last user message's own; earlier users' are left out."""
    answer = {"role": "assistant", "content": "![image](/i/1)"}
    newer = {"role": "assistant", "content": "![image](/i/2)"}
    found = urls_of(user("a", "data:u1"), answer, user("b"), newer, user("c", "data:u2"))
    assert found == ["/i/2", "/i/1", "data:u2"]


def test_without_answers_the_newest_pictures_of_the_user_count() -> None:
    """A correction after a failed answer still means the picture that was sent."""
    assert urls_of(user("a", "data:1"), user("b", "data:2"), user("redder")) == ["data:2"]


def test_a_long_history_drops_its_oldest_pictures() -> None:
    """Sixteen inputs are the most; the caller's own are never dropped."""
    turns = [{"role": "assistant", "content": f"![image](/i/{n})"} for n in range(20)]
    found = urls_of(*turns, user("x", "data:own"))
    assert len(found) == 16
    assert (found[0], found[-2], found[-1]) == ("/i/19", "/i/5", "data:own")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "x"}],
        [user("  ")],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": [3]}],
        [{"role": "user", "content": [{"type": "text", "text": 3}]}],
        [{"role": "user", "content": [{"type": "video_url"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 3}}]}],
        [{"role": 3, "content": "x"}],
        [{"role": "assistant", "images": {}}, user("x")],
        [{"role": "assistant", "images": [3]}, user("x")],
        [user("x", *["data:x"] * 17)],
        [user("x" * 32_001)],
    ],
)
def test_conversations_that_order_nothing(messages: list[dict[str, Any]]) -> None:
    """Each is a 400 about `messages`."""
    with pytest.raises(SafelightError) as caught:
        read_conversation(messages)
    assert caught.value.status == 400
    assert (caught.value.param or "").startswith("messages")


def test_a_form_has_metadata_by_name() -> None:
    texts = [("prompt", "a"), ("metadata[ticket]", "17"), ("metadata[of]", "")]
    fields = coerce_form(texts, EditBody)
    assert fields == {"prompt": "a", "metadata": {"ticket": "17", "of": ""}}

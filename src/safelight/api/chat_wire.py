"""POST /v1/chat/completions: what a conversation means as an order for pictures.

Owns the reading of messages (OpenAI chat API; pictures in assistant turns as relays and
OpenRouter return them) and the tolerated parameters. Writes no answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from safelight.api.wire import (
    MAX_INPUTS,
    PROMPT_MAX,
    Async,
    Delay,
    Model,
    NotBefore,
    Persist,
    Priority,
    WebhookUrl,
    check_names,
    parse_fields,
)
from safelight.errors import InvalidRequest, InvalidValue, MissingParameter
from safelight.types import ImageFormat


class ChatBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """POST /v1/chat/completions: the fields that count; other standard ones are ignored."""

    model: Model
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1000)]
    n: Annotated[int, Meta(ge=1)] | None = None
    size: Annotated[str, Meta(max_length=64)] | None = None
    quality: Annotated[str, Meta(max_length=32)] | None = None
    background: str | None = None
    output_format: ImageFormat | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    moderation: str | None = None
    image_config: dict[str, Any] | None = None
    modalities: list[str] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    async_: Async | None = msgspec.field(default=None, name="async")
    priority: Priority | None = None
    not_before: NotBefore | None = None
    delay_s: Delay | None = None
    webhook_url: WebhookUrl | None = None
    persist: Persist | None = None


# Chat parameters that steer a text model or a relay (OpenRouter's `provider`, `models`, ...); a
# picture has no use for them.
_IGNORED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "include_reasoning",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "min_p",
        "models",
        "parallel_tool_calls",
        "plugins",
        "prediction",
        "presence_penalty",
        "provider",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "route",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "tool_choice",
        "tools",
        "top_a",
        "top_k",
        "top_logprobs",
        "top_p",
        "transforms",
        "usage",
        "verbosity",
        "web_search_options",
    }
)
IMAGE_PARAMETERS = frozenset(
    {"n", "size", "quality", "background", "output_format", "output_compression", "moderation"}
)
DEFAULT_TIER = "2K"
# Everything is bounded or possessive, so that a match looks at each character a fixed number of
# times at most, whatever the text is made of.
_MARKDOWN_IMAGE = re.compile(
    r"!\[[^\[\]\n]{0,200}+\]\(\s{0,8}+<?"
    r"(data:[a-z0-9/.;=+-]{0,80},[a-z0-9+/=_-]++(?=[\s>)])|[^\s()<>\[\]]{1,2048}+)"
    r">?[^()\n]{0,200}+\)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ChatPicture:
    """A picture in a conversation. `required`: an address that is not ours is an error.

    Links in an assistant's text may point anywhere; only our own ones count.
    """

    url: str
    param: str
    required: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation read as an order: the prompt, and the pictures in sending order."""

    prompt: str
    pictures: tuple[ChatPicture, ...]


def parse_chat(fields: Mapping[str, Any]) -> ChatBody:
    """Return a chat body's fields (without nulls), standard text parameters left out.

    Raises:
        InvalidRequest: as `wire.parse_fields`.
    """
    check_names(fields, {*ChatBody.__struct_encode_fields__, *_IGNORED})
    counted = {name: value for name, value in fields.items() if name not in _IGNORED}
    return parse_fields(counted, ChatBody)


def size_of(body: ChatBody) -> str:
    """Return the size as asked: `size`, or OpenRouter's `image_config` as ratio@tier, or auto.

    Raises:
        InvalidValue: an `image_config` field is no string.
    """
    config = body.image_config or {}
    if body.size is not None or not config:
        return body.size or "auto"
    ratio, tier = config.get("aspect_ratio"), config.get("image_size")
    for name, value in (("aspect_ratio", ratio), ("image_size", tier)):
        if value is not None and (not isinstance(value, str) or len(value) > 16):
            param = f"image_config.{name}"
            raise InvalidValue(
                f"Invalid value for {param!r}: expected a short string.", param=param
            )
    if ratio is None and tier is None:
        return "auto"
    return f"{ratio or '1:1'}@{tier or DEFAULT_TIER}"


def read_conversation(messages: list[dict[str, Any]]) -> Conversation:
    """Return what the conversation orders.

    The prompt is the text of the last user message, after the system texts. Pictures of assistant
    turns come first, the newest turn first, so that an iterative edit starts from the latest
    result; then those of the last user message. Without either, the pictures of the newest
    earlier user message count. Beyond sixteen the oldest turns are left out. Parts of other kinds
    (a file, sound, a model's thoughts) are refused in the last user message and else passed over:
    a client sends its history as it is.

    Raises:
        InvalidRequest: a message has another shape.
        MissingParameter: the last user message has no text.
    """
    asking = [at for at, message in enumerate(messages) if message.get("role") == "user"]
    newest = asking[-1] if asking else -1
    turns = [_Turn.read(message, at, strict=at == newest) for at, message in enumerate(messages)]
    users = [turn for turn in turns if turn.role == "user"]
    if not users or not users[-1].text.strip():
        raise MissingParameter("The last user message has no text to draw.", param="messages")
    last = users[-1]
    made = [
        picture for turn in reversed(turns) if turn.role == "assistant" for picture in turn.pictures
    ]
    own = last.pictures
    if not own and not made:
        own = next((turn.pictures for turn in reversed(users) if turn.pictures), ())
    if len(own) > MAX_INPUTS:
        raise InvalidValue(f"A message takes at most {MAX_INPUTS} pictures.", param="messages")
    system = [turn.text for turn in turns if turn.role in ("system", "developer")]
    prompt = "\n\n".join(text.strip() for text in (*system, last.text) if text.strip())
    if len(prompt) > PROMPT_MAX:
        raise InvalidValue(f"The prompt is longer than {PROMPT_MAX} characters.", param="messages")
    return Conversation(prompt, (*made[: MAX_INPUTS - len(own)], *own))


@dataclass(frozen=True, slots=True)
class _Turn:
    role: str
    text: str
    pictures: tuple[ChatPicture, ...]

    @classmethod
    def read(cls, message: dict[str, Any], index: int, *, strict: bool) -> _Turn:
        at = f"messages[{index}]"
        role = message.get("role")
        if not isinstance(role, str):
            raise _invalid_type(f"{at}.role", "a string")
        text, parts = _content(message.get("content"), at, strict=strict)
        if role != "assistant":
            return cls(role, text, tuple(parts))
        # The same picture may be there in several forms; the first of these that is there counts.
        listed = list(_listed(message.get("images"), at))
        return cls(role, text, tuple(listed or parts or _linked(text, at)))


def _content(content: Any, at: str, *, strict: bool) -> tuple[str, list[ChatPicture]]:
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise _invalid_type(f"{at}.content", "a string or an array of parts")
    texts: list[str] = []
    pictures: list[ChatPicture] = []
    for index, part in enumerate(content):
        param = f"{at}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "input_text", "output_text"):
            if not isinstance(part.get("text"), str):
                raise _invalid_type(f"{param}.text", "a string")
            texts.append(part["text"])
        elif kind in ("image_url", "input_image"):
            pictures.append(_picture(part, param))
        elif kind != "refusal" and (strict or not isinstance(kind, str)):
            raise InvalidValue(
                f"Invalid value for '{param}': text and image_url parts are read here.", param=param
            )
    return "\n".join(texts), pictures


def _picture(part: dict[str, Any], param: str) -> ChatPicture:
    found = part.get("image_url")
    url = found.get("url") if isinstance(found, dict) else found
    if not isinstance(url, str):
        raise _invalid_type(f"{param}.image_url.url", "a string")
    return ChatPicture(url, f"{param}.image_url.url", required=True)


def _listed(images: Any, at: str) -> Iterator[ChatPicture]:
    if images is None:
        return
    if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
        raise _invalid_type(f"{at}.images", "an array of objects")
    for index, item in enumerate(images):
        yield _picture(item, f"{at}.images[{index}]")


def _linked(text: str, at: str) -> Iterator[ChatPicture]:
    # One call of the pattern per picture, not one for the text: others can run in between.
    start = text.find("![")
    while start >= 0:
        match = _MARKDOWN_IMAGE.match(text, start)
        if match is not None:
            yield ChatPicture(match[1], f"{at}.content", required=False)
        start = text.find("![", start + 2 if match is None else match.end())


def _invalid_type(param: str, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid type for {param!r}: expected {expected}.", code="invalid_type", param=param
    )

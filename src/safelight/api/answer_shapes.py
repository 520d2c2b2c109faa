"""Shapes of answers whose bytes are put together by hand: pictures, chat, errors.

Owns what /openapi.json says of them; the bytes are written where they are streamed. Describes
OpenAI's published shapes, with what we add to them.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Error(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What went wrong; `param` names the parameter at fault."""

    message: str
    type: str
    param: str | None
    code: str | None
    moderation_details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    job_id: str | msgspec.UnsetType = msgspec.UNSET
    """Of the job that this is the last word on, or that goes on."""


class ErrorBody(msgspec.Struct, kw_only=True):
    """The body of every answer that is not a success."""

    error: Error


class TokenDetails(msgspec.Struct, kw_only=True):
    """Tokens by what they stood for."""

    text_tokens: int
    image_tokens: int


class ImageUsage(msgspec.Struct, kw_only=True):
    """Tokens of the pictures; zeros when the upstream told none."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class ImageData(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One picture: one of both, as `response_format` asked."""

    b64_json: str | msgspec.UnsetType = msgspec.UNSET
    url: str | msgspec.UnsetType = msgspec.UNSET


class ImagesResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Pictures; `size` is measured on the first file."""

    created: int
    data: list[ImageData]
    size: str
    background: str
    output_format: str
    usage: ImageUsage
    quality: str | msgspec.UnsetType = msgspec.UNSET
    safety_identifier: str | msgspec.UnsetType = msgspec.UNSET


class ChatImageUrl(msgspec.Struct, kw_only=True):
    """A link, or a data: URL when `modalities` has "image"."""

    url: str


class ChatImage(msgspec.Struct, kw_only=True):
    """A picture beside a message's text."""

    type: str
    index: int
    image_url: ChatImageUrl


class ChatMessage(msgspec.Struct, kw_only=True):
    """The assistant's answer: a markdown link per picture, and the pictures."""

    role: str
    content: str
    refusal: str | None
    images: list[ChatImage]


class ChatChoice(msgspec.Struct, kw_only=True):
    """The one choice; all pictures are in its message."""

    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """A finished chat order."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: dict[str, Any]


class Health(msgspec.Struct, kw_only=True):
    """The server's word that it is well."""

    status: str

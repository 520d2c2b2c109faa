"""The image routes' parameters: which exist, of which type, and what order they make.

Owns names, types and universal bounds (OpenAI images API, generations and edits). Which of them a
channel serves is the gateway's business; where the bytes of a body come from is `body`'s and
`multipart`'s.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from safelight.errors import (
    InvalidRequest,
    InvalidValue,
    MissingParameter,
    UnknownParameter,
    UnsupportedParameter,
)
from safelight.types import BlobRef, ImageFormat, ImageRequest, Metadata, Operation

MAX_INPUTS = 16
PROMPT_MAX = 32_000

Prompt = Annotated[
    str, Meta(min_length=1, max_length=PROMPT_MAX, description="What the picture shall show.")
]
Model = Annotated[
    str, Meta(min_length=1, max_length=256, description="A channel of GET /v1/models.")
]
PRIORITY_MAX = 1000
DELAY_MAX_S = 7 * 86_400
UNIX_MAX_S = 100_000_000_000

# The fields of an order that nobody waits for, the same on every route that makes pictures.
Async = Annotated[
    bool,
    Meta(description="Answer 202 with the job at once, as with the header Prefer: respond-async."),
]
Priority = Annotated[
    int,
    Meta(ge=1, le=PRIORITY_MAX, description="Among your waiting jobs the lowest first; 100."),
]
NotBefore = Annotated[
    int, Meta(ge=0, lt=UNIX_MAX_S, description="When the job may begin, unix seconds.")
]
Delay = Annotated[float, Meta(ge=0, le=DELAY_MAX_S, description="Seconds until the job may begin.")]
WebhookUrl = Annotated[
    str, Meta(max_length=2048, description="Whom to tell about the end of each job.")
]
MetadataField = Annotated[
    dict[str, str],
    Meta(description="Up to 16 names and values of yours, shown on each job; nothing reads them."),
]
METADATA_MAX, METADATA_KEY_MAX, METADATA_VALUE_MAX = 16, 64, 512
Persist = Annotated[bool, Meta(description="Carry the pictures to the customer's own bucket, too.")]


class _Options(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What generations, edits and quotes have in common; null means absent."""

    model: Model
    n: Annotated[int, Meta(ge=1, description="How many pictures; each is one job.")] | None = None
    size: (
        Annotated[
            str,
            Meta(max_length=64, description="WIDTHxHEIGHT, ratio@tier such as 16:9@2K, or auto."),
        ]
        | None
    ) = None
    quality: Annotated[str, Meta(max_length=32)] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    output_format: ImageFormat | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: Annotated[bool, Meta(description="Answer as server-sent events.")] | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    response_format: (
        Annotated[
            Literal["url", "b64_json"],
            Meta(description="b64_json (the default), or url: a signed link that expires."),
        ]
        | None
    ) = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    async_: Async | None = msgspec.field(default=None, name="async")
    priority: Priority | None = None
    not_before: NotBefore | None = None
    delay_s: Delay | None = None
    webhook_url: WebhookUrl | None = None
    persist: Persist | None = None
    metadata: MetadataField | None = None


class GenerationBody(_Options, kw_only=True):
    """POST /v1/images/generations."""

    prompt: Prompt


class ImageRef(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A picture in a JSON body: a data: URL, or a link that this gateway made."""

    image_url: str | None = None
    file_id: str | None = None


class EditBody(_Options, kw_only=True):
    """POST /v1/images/edits as JSON; as multipart the pictures are files instead."""

    prompt: Prompt
    image: str | ImageRef | list[str | ImageRef] | None = None
    images: str | ImageRef | list[str | ImageRef] | None = None
    mask: str | ImageRef | None = None
    input_fidelity: Literal["high", "low"] | None = None


class QuoteBody(_Options, kw_only=True):
    """POST /v1/quote: a generation's body; `inputs` above zero makes it an edit."""

    prompt: Prompt | None = None
    inputs: Annotated[int, Meta(ge=0, le=MAX_INPUTS)] | None = None
    input_fidelity: Literal["high", "low"] | None = None


Body = TypeVar("Body", bound=msgspec.Struct)

_NOT_SERVED = {
    "style": "the models served here have no styles",
    "complexity": "no model served here takes it",
    "frame_count": "animations are not served here",
    "frame_duration_ms": "animations are not served here",
    "svg": "vector pictures are not served here",
    "markup": "send a mask instead",
}
# Names that would let a caller choose where a request or a credential goes (CVE-2024-6587).
_ROUTING = frozenset(
    {
        "api_base",
        "api_key",
        "api_type",
        "api_version",
        "azure_endpoint",
        "base_url",
        "custom_llm_provider",
        "deployment_id",
        "endpoint",
        "extra_headers",
        "headers",
        "organization",
        "proxy",
    }
)
_JSON_WORDS = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
_FORM_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_INTEGER = re.compile(r"-?[0-9]{1,11}")
_DECIMAL = re.compile(r"-?[0-9]{1,11}(?:\.[0-9]{1,9})?")
_PAIR = re.compile(r"metadata\[(?P<name>[^\[\]]+)\]")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>\w+)`")


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not null; null means absent (OpenAI's `Optional` fields)."""
    return {name: value for name, value in fields.items() if value is not None}


def check_names(names: Collection[str], known: Collection[str]) -> None:
    """Refuse what no route knows, by name.

    Raises:
        UnsupportedParameter: an OpenAI parameter that is not served here.
        UnknownParameter: any other name, and always one that would choose a route or credential.
    """
    for name in names:
        if name in known:
            continue
        shown = name if len(name) <= 64 else f"{name[:64]}…"
        if name in _NOT_SERVED:
            raise UnsupportedParameter(
                f"{shown!r} is not supported: {_NOT_SERVED[name]}.", param=name
            )
        if name in _ROUTING:
            raise UnknownParameter(
                f"{shown!r} is not yours to choose here; leave it out.", param=shown
            )
        raise UnknownParameter(f"Unknown parameter: {shown!r}.", param=shown)


def parse_fields(fields: Mapping[str, Any], shape: type[Body]) -> Body:
    """Return a JSON body's fields (without nulls) as `shape`.

    Raises:
        UnknownParameter, UnsupportedParameter: `check_names`' reasons.
        MissingParameter: a required field is absent.
        InvalidRequest: `invalid_type` or `invalid_value`, naming the field.
    """
    if shape is GenerationBody:
        _check_no_edit(fields)
    check_names(fields, shape.__struct_encode_fields__)
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), shape) from error


def coerce_form(texts: list[tuple[str, str]], shape: type[Body]) -> dict[str, Any]:
    """Return a form's texts with integers and booleans read; an empty option means absent.

    Raises:
        UnknownParameter, UnsupportedParameter: `check_names`' reasons.
        InvalidValue: a field came twice.
    """
    # Names first: of `extra[a]` and `extra[b]` the caller must hear that there is no `extra`.
    check_names([_field_name(raw_name) for raw_name, _ in texts], shape.__struct_encode_fields__)
    hints = _hints(shape)
    fields: dict[str, Any] = {}
    for raw_name, text in texts:
        name = _field_name(raw_name)
        if pair := _PAIR.fullmatch(raw_name):
            fields.setdefault("metadata", {})[pair["name"]] = text
            continue
        if name in fields:
            raise InvalidValue(f"{name[:64]!r} was sent more than once.", param=name[:64])
        kinds = get_args(hints.get(name, str))
        value: Any = text
        if int in kinds and _INTEGER.fullmatch(text.strip()):
            value = int(text)
        elif float in kinds and _DECIMAL.fullmatch(text.strip()):
            value = float(text)
        elif bool in kinds:
            value = _FORM_BOOLEANS.get(text.strip().lower(), text)
        if value != "" or name == "prompt":
            fields[name] = value
    return fields


def _hints(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the types of a body's fields by their names on the wire."""
    hints = get_type_hints(shape, include_extras=False)
    names = zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True)
    return {on_wire: hints[name] for name, on_wire in names}


def _field_name(raw_name: str) -> str:
    return raw_name.partition("[")[0] if raw_name.endswith("]") else raw_name


def check_metadata(metadata: dict[str, str] | None) -> None:
    """Bound what a caller writes on its jobs or batch, as OpenAI does.

    Raises:
        InvalidValue: too many pairs, or too long ones.
    """
    if metadata is None:
        return
    if len(metadata) > METADATA_MAX:
        raise InvalidValue(f"'metadata' has at most {METADATA_MAX} pairs.", param="metadata")
    for name, value in metadata.items():
        if len(name) > METADATA_KEY_MAX or len(value) > METADATA_VALUE_MAX:
            raise InvalidValue(
                f"'metadata' has keys of at most {METADATA_KEY_MAX} characters and values of at "
                f"most {METADATA_VALUE_MAX}.",
                param="metadata",
            )


def metadata_of(body: GenerationBody | EditBody) -> Metadata:
    """Return what is to be written on the jobs.

    Raises:
        InvalidValue: it is too much.
    """
    check_metadata(body.metadata)
    return tuple((body.metadata or {}).items())


def _check_no_edit(fields: Mapping[str, Any]) -> None:
    """Send who gives a generation the parameters of an edit to the other route."""
    generation = set(GenerationBody.__struct_encode_fields__)
    for name in EditBody.__struct_encode_fields__:
        if name in fields and name not in generation:
            raise UnsupportedParameter(
                f"{name!r} belongs to edits. Send this request to /v1/images/edits, or leave "
                f"{name!r} out.",
                param=name,
            )


def _refusal(message: str, shape: type[msgspec.Struct]) -> InvalidRequest:
    if missing := _MISSING.match(message):
        name = missing["name"]
        return MissingParameter(f"Missing required parameter: {name!r}.", param=name)
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    param = path.removeprefix("$").removeprefix(".") or None
    about = f"for {param!r}" if param else "in the body"
    if ", got `" in what:
        expected = _in_json_words(what.partition("`")[2].partition("`")[0])
        return InvalidRequest(
            f"Invalid type {about}: expected {expected}.", code="invalid_type", param=param
        )
    if what.startswith("Invalid enum value") and param in shape.__struct_fields__:
        return InvalidValue(
            f"Invalid value {about}: it is one of {_choices(shape, param)}.", param=param
        )
    return InvalidValue(f"Invalid value {about}: {_bound(what)}.", param=param)


def _bound(what: str) -> str:
    """Say a bound in a caller's words: msgspec's ``Expected `int` <= 3``."""
    kind, _, rule = what.removeprefix("Expected `").partition("` ")
    if rule == "of length >= 1":
        return "it is empty"
    if rule.startswith("of length <= "):
        unit = "characters" if kind == "str" else "items"
        return f"it has more than {rule.removeprefix('of length <= ')} {unit}"
    return f"it is {_JSON_WORDS.get(kind, kind)} {rule}" if rule else what.lower()


def _in_json_words(kinds: str) -> str:
    return " or ".join(_JSON_WORDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null")


def _choices(shape: type[msgspec.Struct], name: str) -> str:
    kinds = get_args(get_type_hints(shape)[name])
    return ", ".join(value for kind in kinds for value in get_args(kind) if isinstance(value, str))


def image_request(
    body: GenerationBody | EditBody | QuoteBody,
    operation: Operation,
    *,
    size: str,
    inputs: tuple[BlobRef, ...] = (),
    mask: BlobRef | None = None,
    watched: bool = False,
) -> ImageRequest:
    """Return a body as the order it means.

    Partial images count only where somebody can see them, in a stream or beside a job that nobody
    waits for, so that a retry without one is the same order.

    Args:
        body: as parsed.
        operation: what the route does.
        size: the body's size in canonical form.
        inputs: the pictures of an edit, in order.
        mask: the mask of an edit.
        watched: whether its jobs can be watched while nobody waits for the answer.
    """
    return ImageRequest(
        operation=operation,
        channel=body.model,
        prompt="-" if body.prompt is None else body.prompt,
        size=size,
        quality=body.quality,
        background=body.background,
        output_format=body.output_format or "png",
        output_compression=body.output_compression,
        moderation=body.moderation,
        input_fidelity=None if isinstance(body, GenerationBody) else body.input_fidelity,
        inputs=inputs,
        mask=mask,
        n=1 if body.n is None else body.n,
        partial_images=(body.partial_images or 0) if body.stream or watched else 0,
        user=body.safety_identifier or body.user,
    )

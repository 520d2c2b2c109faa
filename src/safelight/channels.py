"""The model ids that customers may ask for: what each takes, what it costs, how pixels are made.

Owns the rules of a request (OpenAI images API, "create image" and "create image edit", narrowed by
the channel's configuration), prices and the wording of refusals. Pure: no I/O, no clock. Owns no
parsing of bodies (api/) and no size arithmetic (sizes.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

import msgspec

from safelight import sizes
from safelight.config import ChannelConfig
from safelight.errors import (
    InvalidImage,
    InvalidRequest,
    InvalidValue,
    MissingParameter,
    UnknownModel,
    UnsupportedParameter,
)
from safelight.types import (
    IMAGE_FORMATS,
    ImageRequest,
    Micros,
    Operation,
    PlanMethod,
    Quote,
    SizePlan,
)

PROMPT_CHARACTERS_MAX = 32_000
USER_CHARACTERS_MAX = 512
INPUTS_MAX = 16
PARTIAL_IMAGES_MAX = 3
HINT_EDGE_MAX = 8192
"""The longest edge that is told to a model as a hint; longer is a slip of the keyboard."""

BACKGROUNDS = ("transparent", "opaque", "auto")
MODERATIONS = ("auto", "low")
INPUT_FIDELITIES = ("high", "low")
EDIT_PARAMETERS = ("image", "images", "mask")

# Sizes that clients of the vendor know and that a channel of kind `legal` lists beside the table.
_POPULAR = ("1536x1024", "1024x1536")

# Postgres text takes no NUL, UTF-8 no lone surrogates: neither can be stored or sent on.
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


class SizeEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One size of a channel as GET /v1/sizes lists it.

    `plan` is in words (`native`, `crop from 1824x1024`), `canvas` what the upstream is asked for.
    `price_micros` is the price without `quality`; `prices_micros` the price by quality where it
    depends on it.
    """

    name: str
    width: int
    height: int
    ratio: str
    tier: sizes.Tier
    plan: str
    canvas: str
    price_micros: Micros
    prices_micros: dict[str, Micros] = {}


class Channels:
    """The channels of a configuration; answers are functions of the request alone."""

    def __init__(self, channels: Mapping[str, ChannelConfig]) -> None:
        self._channels = dict(channels)

    def ids(self) -> tuple[str, ...]:
        """Return the model ids, in the order of the configuration."""
        return tuple(self._channels)

    def get(self, name: str, *, status: int = 400) -> ChannelConfig:
        """Return the channel called `name`.

        Raises:
            UnknownModel: there is none; with `status` 400 (image routes) or 404 (elsewhere).
        """
        channel = self._channels.get(name)
        if channel is None:
            known = ", ".join(self._channels)
            raise UnknownModel(
                f"The model {_shown(name)} does not exist. Ask for one of: {known}.", status=status
            )
        return channel

    def check(
        self, request: ImageRequest, *, given: Collection[str] = (), stream: bool = False
    ) -> ImageRequest:
        """Return the request in canonical form (its size resolved) if its channel serves it.

        Args:
            request: as parsed; `size` may still be in any form that `sizes.parse_size` reads.
            given: the names of the parameters that the caller sent, whatever their value.
            stream: whether the answer is to be streamed.

        Raises:
            InvalidRequest: a subclass of it that names the parameter and says what to send instead.
        """
        channel = self.get(request.channel)
        size = self.resolve_size(request.channel, request.size)
        request = msgspec.structs.replace(request, size=size)
        _check_prompt(channel, request)
        _check_count(channel, request, stream=stream)
        _check_quality(channel, request)
        _check_output(request)
        _check_choices(channel, request)
        if request.operation is Operation.EDIT:
            _check_inputs(request)
            _check_mask(request)
        else:
            _check_no_inputs(request, given)
        return request

    def resolve_size(self, name: str, text: str) -> str:
        """Return the size `text` as channel `name` calls it: `WxH` or `auto`.

        Raises:
            UnknownModel: no such channel.
            InvalidValue: on `size`, listing what the channel takes.
        """
        channel = self.get(name)
        try:
            size = sizes.parse_size(text)
        except InvalidValue:
            raise sizes.invalid_size(text, self.allowed_sizes(name)) from None
        if size == "auto":
            return size
        width, height = sizes.dimensions(size)
        if problem := _size_problem(channel, width, height):
            raise sizes.invalid_size(text, f"{problem} {self.allowed_sizes(name)}")
        return size

    def allowed_sizes(self, name: str) -> str:
        """Return in words which sizes channel `name` takes."""
        channel = self.get(name)
        match channel.sizes:
            case "table":
                return (
                    f"{name} makes exactly these: {', '.join(_names(channel))}; or a ratio and "
                    "tier of the table such as 16:9@2K; or auto. GET /v1/sizes shows how each is "
                    "made."
                )
            case "legal":
                return (
                    f"{name} makes WIDTHxHEIGHT with both edges divisible by {sizes.GRID} and at "
                    f"most {sizes.EDGE_MAX}, a ratio of at most {sizes.RATIO_MAX}:1 and "
                    f"{sizes.PIXELS_MIN:,} to {sizes.PIXELS_MAX:,} pixels; a ratio and tier such "
                    "as 16:9@2K; or auto."
                )
            case "hint":
                return (
                    f"{name} tells the model a size as a hint: WIDTHxHEIGHT with edges from "
                    f"{sizes.GRID} to {HINT_EDGE_MAX}, a ratio and tier such as 16:9@2K, or auto."
                )

    def plan(self, request: ImageRequest) -> SizePlan:
        """Return how the pixels of a checked request are made.

        Raises:
            InvalidValue: on `size`, for a request that `check` would refuse.
        """
        channel = self.get(request.channel)
        return _plan(channel, self.resolve_size(request.channel, request.size))

    def quote(
        self, request: ImageRequest, *, batch: bool = False, vendor_batch: bool = False
    ) -> Quote:
        """Return price and size plan of a checked request; of a batch's at the price of batches.

        With `vendor_batch` at the price of lines that may go to the vendor's own Batch API.

        Without `quality`, and with `auto`, the price is that of quality `auto` if the channel has
        one, else that of `high`: the model may choose it. `size` `auto` costs what tier 1K costs.

        Raises:
            InvalidValue: on `size` or `quality`, for a request that `check` would refuse.
        """
        channel = self.get(request.channel)
        plan = self.plan(request)
        price = _price(channel, request.quality, plan.width, plan.height)
        if batch and channel.batch_price_micros is not None:
            price = channel.batch_price_micros
        if vendor_batch and channel.vendor_batch_price_micros is not None:
            price = channel.vendor_batch_price_micros
        return Quote(request.channel, plan, request.n, price, price * request.n)

    def vendor_batch_price(self, request: ImageRequest) -> Micros | None:
        """Return what one image costs in a batch that goes to the vendor's; None: none may."""
        if self.get(request.channel).vendor_batches == "off" or request.inputs:
            return None
        return self.quote(request, batch=True, vendor_batch=True).price_micros

    def sizes(self, name: str) -> list[SizeEntry]:
        """Return the sizes of channel `name` that have a name, with plan and price.

        All of them for a `table` channel; for the others the table's, where the channel takes them.

        Raises:
            UnknownModel: no such channel.
        """
        channel = self.get(name)
        names = _names(channel)
        if channel.sizes == "legal":
            listed = (*names, *_POPULAR)
            names = tuple(size for size in listed if sizes.is_legal(*sizes.dimensions(size)))
        return [_entry(channel, size) for size in names]

    def upstream_prompt(self, request: ImageRequest) -> str:
        """Return the prompt for the model: on `hint` channels with a last line about the size."""
        size = self.resolve_size(request.channel, request.size)
        return request.prompt + _hint(self.get(request.channel), size)


# What a request may say. Each check names the parameter and what to send instead.


def _shown(value: str) -> str:
    """Return a caller's text quoted and short enough for a message."""
    return repr(value if len(value) <= 60 else f"{value[:60]}\u2026")


def _one_of(param: str, value: str | None, allowed: Collection[str]) -> None:
    if value is not None and value not in allowed:
        listed = ", ".join(f"'{choice}'" for choice in allowed)
        raise InvalidValue(
            f"Invalid value {_shown(value)} of '{param}'. Send one of: {listed}.", param=param
        )


def _check_text(param: str, text: str, characters_max: int) -> None:
    if len(text) > characters_max:
        raise InvalidValue(
            f"'{param}' has {len(text):,} characters; shorten it to {characters_max:,}.",
            param=param,
        )
    if _NOT_TEXT.search(text):
        raise InvalidValue(
            f"'{param}' contains a NUL or half a surrogate pair; send valid Unicode text.",
            param=param,
        )


def _check_prompt(channel: ChannelConfig, request: ImageRequest) -> None:
    if not request.prompt.strip():
        raise MissingParameter(
            "'prompt' is required: describe the picture in words.", param="prompt"
        )
    hint = _hint(channel, request.size)
    _check_text("prompt", request.prompt, PROMPT_CHARACTERS_MAX - len(hint))


def _check_count(channel: ChannelConfig, request: ImageRequest, *, stream: bool) -> None:
    n = request.n
    if n > 1 and channel.n_max == 1:
        raise UnsupportedParameter(
            f"'n' is not supported by {request.channel}: it makes one image per request. "
            "Leave 'n' out and send one request per image; they may run at the same time.",
            param="n",
        )
    if not 1 <= n <= channel.n_max:
        raise InvalidValue(
            f"Invalid value {n} of 'n'. {request.channel} takes 1 to {channel.n_max}.", param="n"
        )
    if n > 1 and stream:
        raise InvalidValue(
            "A stream carries one image: its events do not say which image they belong to. "
            "Leave 'n' out and open one stream per image, or leave 'stream' out.",
            param="n",
        )
    if not 0 <= request.partial_images <= PARTIAL_IMAGES_MAX:
        raise InvalidValue(
            f"Invalid value {request.partial_images} of 'partial_images'. "
            f"Send 0 to {PARTIAL_IMAGES_MAX}.",
            param="partial_images",
        )


def _check_quality(channel: ChannelConfig, request: ImageRequest) -> None:
    if request.quality is not None and not channel.quality:
        raise UnsupportedParameter(
            f"'quality' is not supported by {request.channel}: the channel fixes it. "
            "Leave 'quality' out.",
            param="quality",
        )
    _one_of("quality", request.quality, channel.quality)


def _check_output(request: ImageRequest) -> None:
    _one_of("output_format", request.output_format, IMAGE_FORMATS)
    compression = request.output_compression
    if compression is not None and not 0 <= compression <= 100:
        raise InvalidValue(
            f"Invalid value {compression} of 'output_compression'. Send 0 to 100.",
            param="output_compression",
        )
    if compression not in (None, 100) and request.output_format == "png":
        raise InvalidValue(
            "'output_compression' below 100 needs 'output_format' 'jpeg' or 'webp'; "
            "png is lossless.",
            param="output_compression",
        )
    _one_of("background", request.background, BACKGROUNDS)
    if request.background == "transparent" and request.output_format == "jpeg":
        raise InvalidValue(
            "'background' 'transparent' needs 'output_format' 'png' or 'webp'; "
            "jpeg has no transparency.",
            param="background",
        )


def _check_choices(channel: ChannelConfig, request: ImageRequest) -> None:
    _one_of("moderation", request.moderation, MODERATIONS)
    if request.user is not None:
        _check_text("user", request.user, USER_CHARACTERS_MAX)
    if request.input_fidelity is None:
        return
    if not channel.input_fidelity:
        raise InvalidRequest(
            f"The model '{request.channel}' does not take 'input_fidelity': it always looks at "
            "the input images closely. Leave the parameter out.",
            code="invalid_input_fidelity_model",
            param="input_fidelity",
        )
    _one_of("input_fidelity", request.input_fidelity, INPUT_FIDELITIES)


def _check_inputs(request: ImageRequest) -> None:
    if not request.inputs:
        raise MissingParameter(
            f"'image' is required: send 1 to {INPUTS_MAX} png, jpeg or webp files.", param="image"
        )
    if len(request.inputs) > INPUTS_MAX:
        raise InvalidValue(
            f"{len(request.inputs)} input images were sent; send at most {INPUTS_MAX}.",
            param="image",
        )


def _check_mask(request: ImageRequest) -> None:
    mask, first = request.mask, request.inputs[0]
    if mask is None:
        return
    if (mask.width, mask.height) != (first.width, first.height):
        raise InvalidImage(
            f"The mask has {mask.width}x{mask.height} pixels, the first image "
            f"{first.width}x{first.height}. Send a mask of the same size.",
            param="mask",
        )
    if not mask.has_alpha:
        raise InvalidImage(
            "The mask has no alpha channel. Send a png whose transparent pixels mark where to "
            "edit.",
            param="mask",
        )


def _check_no_inputs(request: ImageRequest, given: Collection[str]) -> None:
    sent = [name for name in EDIT_PARAMETERS if name in given]
    if request.mask is not None:
        sent.append("mask")
    if request.inputs:
        sent.append("image")
    if sent:
        raise UnsupportedParameter(
            f"'{sent[0]}' belongs to edits. Send this request to /v1/images/edits, or leave "
            f"'{sent[0]}' out.",
            param=sent[0],
        )


# Sizes and prices.


def _names(channel: ChannelConfig) -> tuple[str, ...]:
    return channel.size_names or tuple(sizes.SIZES_BY_NAME)


def _size_problem(channel: ChannelConfig, width: int, height: int) -> str | None:
    """Return why the channel does not take the size, with the nearest that it takes, or None."""
    match channel.sizes:
        case "table":
            names = _names(channel)
            if f"{width}x{height}" in names:
                return None
            return f"The nearest is {_nearest_name(names, width, height)}."
        case "legal":
            problem = sizes.why_illegal(width, height)
            if problem is None:
                return None
            nearest = "{}x{}".format(*sizes.nearest_legal(width, height))
            return f"{problem} The nearest is {nearest}."
        case "hint":
            if min(width, height) >= sizes.GRID and max(width, height) <= HINT_EDGE_MAX:
                return None
            return "That is no size for a picture."


def _nearest_name(names: Collection[str], width: int, height: int) -> str:
    """Return the name whose shape is nearest, and among equal shapes the nearest in area."""

    def distance(name: str) -> float:
        w, h = sizes.dimensions(name)
        shape = abs(math.log(w / h) - math.log(width / height))
        area = abs(math.log(w * h) - math.log(width * height))
        return 4 * shape + area

    return min(names, key=distance)


def _plan(channel: ChannelConfig, size: str) -> SizePlan:
    if size == "auto":
        return SizePlan(PlanMethod.AUTO)
    width, height = sizes.dimensions(size)
    if channel.sizes == "hint":
        return SizePlan(PlanMethod.HINT, width, height)
    return sizes.plan_size(width, height)


def _price(channel: ChannelConfig, quality: str | None, width: int, height: int) -> Micros:
    """Return the price of one image; `width` and `height` are 0 for size `auto`."""
    if channel.price_micros is not None:
        return channel.price_micros
    row = channel.prices.get(quality or "auto")
    if row is None and quality in (None, "auto"):
        row = channel.prices.get("high")
    if row is None:
        raise InvalidValue(
            f"There is no price for 'quality' {_shown(quality or 'auto')}. "
            f"Send one of: {', '.join(channel.prices)}.",
            param="quality",
        )
    return row[sizes.tier_of(width, height)]


def _entry(channel: ChannelConfig, name: str) -> SizeEntry:
    width, height = sizes.dimensions(name)
    plan = _plan(channel, name)
    by_quality = channel.quality if channel.price_micros is None else ()
    return SizeEntry(
        name=name,
        width=width,
        height=height,
        ratio=_ratio(name),
        tier=sizes.tier_of(width, height),
        plan=plan.describe(),
        canvas=plan.canvas,
        price_micros=_price(channel, None, width, height),
        prices_micros={quality: _price(channel, quality, width, height) for quality in by_quality},
    )


def _ratio(size: str) -> str:
    """Return the ratio that a size is named under in the table, else its edges' own."""
    if named := sizes.SIZES_BY_NAME.get(size):
        return named.ratio
    width, height = sizes.dimensions(size)
    divisor = math.gcd(width, height)
    return f"{width // divisor}:{height // divisor}"


def _hint(channel: ChannelConfig, size: str) -> str:
    """Return what is added to the prompt so that the model may heed the size, or nothing."""
    if channel.sizes != "hint" or size == "auto":
        return ""
    width, height = sizes.dimensions(size)
    shape = "square" if width == height else "landscape" if width > height else "portrait"
    return f"\n\nMake the picture {width}x{height} pixels ({shape}, ratio {_ratio(size)})."

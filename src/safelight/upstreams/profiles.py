"""What servers of the images routes make of them: one profile each, as data.

Owns the differences between OpenAI's Images API and the servers that speak it: which fields they
take, how they name files, which masks, formats and sizes they know. How a request is built from a
profile is in `openai_request.py`; no profile has code of its own.

Sources: OpenAI images API; Azure OpenAI "image generation" reference; the servers' own sources and
manuals (vLLM-Omni 0.30, SGLang 0.5.23, stable-diffusion.cpp server, LocalAI).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from safelight.types import IMAGE_FORMATS, ImageFormat

_COMMON: Final = frozenset({"prompt", "n", "size"})
_PARAMETERS: Final = frozenset(
    {"model", "quality", "background", "output_format", "output_compression", "input_fidelity"}
)

Substitution = tuple[re.Pattern[str], str]
"""What in a prompt the server would take for a parameter, and what is sent in its place."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One kind of server.

    Attributes:
        fields: parameters of the Images API that are sent when they were given.
        response_format: sent with every call, or None where the server refuses the field.
        asks_png: False where png is the default and the word is better left out.
        formats: what the server can answer; anything else is asked for as png and remade here.
        input_formats: what the server can read; anything else is converted to png before.
        any_size: the server draws any size, so a refused one is its own cap.
        auto_edge: edge in pixels of the square that `auto` is sent as; 0: no size is sent.
        auto_edits: whether an edit's `auto` is sent as a number, in the first input's ratio.
        streams: whether partial images can be asked for.
        edits_path: the route of edits.
        masked_path: the route of edits with a mask.
        inputs_in_json: if not empty, an edit without a mask is a generation, and this field holds
            its inputs in base64.
        one_input: field name of a single input file.
        mask_field: field name of the mask.
        mask: `alpha` (transparent is edited, as in the Images API), `white` (white is edited), or
            None where the server would leave a mask unread.
        masked_inputs_max: most inputs of an edit with a mask.
        substitutions: what is changed in prompts so that they set no parameters.
        listless: whether the server may lack the list of models.
        closes_accounts: whether 403 means that the whole account is shut out.
    """

    fields: frozenset[str]
    response_format: str | None = "b64_json"
    asks_png: bool = True
    formats: tuple[ImageFormat, ...] = IMAGE_FORMATS
    input_formats: tuple[ImageFormat, ...] = IMAGE_FORMATS
    any_size: bool = True
    auto_edge: int = 0
    auto_edits: bool = True
    streams: bool = False
    edits_path: str = "images/edits"
    masked_path: str = "images/edits"
    inputs_in_json: str = ""
    one_input: str = "image"
    mask_field: str = "mask"
    mask: Literal["alpha", "white"] | None = "alpha"
    masked_inputs_max: int = 16
    substitutions: tuple[Substitution, ...] = ()
    listless: bool = False
    closes_accounts: bool = False


OPENAI: Final = Profile(
    fields=_COMMON | _PARAMETERS | {"moderation", "user"},
    # GPT image models refuse the field and always answer base64.
    response_format=None,
    any_size=False,
    streams=True,
)

AZURE: Final = Profile(
    fields=_COMMON | (_PARAMETERS - {"output_compression"}) | {"user"},
    response_format=None,
    # Its manual counts output_compression the other way round: a lossy picture with a given
    # compression is asked for as png and compressed here, so that 80 means 80.
    formats=("png", "jpeg"),
    input_formats=("png", "jpeg"),
    any_size=False,
    streams=True,
    closes_accounts=True,
)
AZURE_DEPLOYMENT: Final = Profile(
    # The deployment stands in the path; a model beside it breaks the call.
    fields=AZURE.fields - {"model"},
    response_format=None,
    formats=AZURE.formats,
    input_formats=AZURE.input_formats,
    any_size=False,
    streams=True,
    closes_accounts=True,
)

PROFILES: Final[dict[str, Profile]] = {
    "openai": OPENAI,
    "vllm-omni": Profile(
        fields=_COMMON | {"model"},
        auto_edge=1024,
        auto_edits=False,
        mask_field="mask_image",
        mask="white",
    ),
    "sglang": Profile(
        fields=_COMMON | {"model", "quality", "background", "output_format"},
        auto_edge=1024,
        mask=None,
    ),
    "stable-diffusion-cpp": Profile(
        fields=_COMMON | {"output_format"},
        response_format=None,
        formats=("png", "jpeg"),
        input_formats=("png", "jpeg"),
        auto_edge=1024,
        one_input="image[]",
        mask="white",
        substitutions=(
            # Its own tag holds parameters, the tag of LoRAs names files to load.
            (re.compile(r"<(?=\s*/?\s*sd_cpp_extra_args|\s*lora\s*:)", re.IGNORECASE), "\u2039"),
        ),
    ),
    "localai": Profile(
        fields=_COMMON | {"model"},
        input_formats=("png", "jpeg"),
        auto_edge=1024,
        masked_path="images/inpainting",
        inputs_in_json="ref_images",
        mask="white",
        masked_inputs_max=1,
        # Behind the bar it reads the negative prompt; the full-width bar reads the same to a model.
        substitutions=((re.compile(r"\|"), "\uff5c"),),
    ),
    "compatible": Profile(
        fields=_COMMON | _PARAMETERS | {"user"},
        asks_png=False,
        streams=True,
        listless=True,
    ),
}

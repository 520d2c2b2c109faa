"""The programs of the article that safelight answers to, with nothing changed but address and key.

Runs with any openai SDK from 1.109 on; address and key come from OPENAI_BASE_URL and
OPENAI_API_KEY, the folder for the pictures is the first argument. Prints one line per program; ends
with an error when a picture is not what was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import re
import struct
import sys
import urllib.request
from pathlib import Path

import openai
from openai import AsyncOpenAI, OpenAI

client = OpenAI(timeout=300, max_retries=2)
folder = Path(sys.argv[1])


def png_size(data: bytes) -> tuple[int, int]:
    """Read width and height from a PNG's header."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise SystemExit(f"not a PNG: {data[:16]!r}")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def check(name: str, data: bytes, size: tuple[int, int]) -> None:
    """Keep a picture and make sure that it measures what was asked for."""
    (folder / f"{name}.png").write_bytes(data)
    found = png_size(data)
    if found != size:
        raise SystemExit(f"{name}: {found} instead of {size}")
    print(f"{name}: {found[0]}x{found[1]}, {len(data)} bytes")


def generate() -> None:
    """Text to image."""
    resp = client.images.generate(
        model="gpt-image-2-vip",
        prompt="Dark tech-style launch event visual, central neon title 'safelight · Launch', "
        "small text in bottom left 2026",
        size="2048x1152",
    )
    check("a", base64.b64decode(resp.data[0].b64_json), (2048, 1152))


def edit() -> None:
    """Several images into one."""
    resp = client.images.edit(
        model="gpt-image-2-vip",
        prompt="Set the product on the stage, title 'New Arrival'",
        size="2048x2048",
        image=[open(folder / "a.png", "rb"), open(folder / "b.png", "rb")],
    )
    check("edit", base64.b64decode(resp.data[0].b64_json), (2048, 2048))


def edit_single_bytes() -> None:
    """One image given as bytes, which the SDK sends as application/octet-stream."""
    resp = client.images.edit(
        model="gpt-image-2-vip",
        prompt="The same at night",
        size="1024x1024",
        image=(folder / "b.png").read_bytes(),
    )
    check("edit-bytes", base64.b64decode(resp.data[0].b64_json), (1024, 1024))


def chat() -> None:
    """An image through chat: a markdown link in the content."""
    resp = client.chat.completions.create(
        model="gpt-image-2-vip",
        messages=[{"role": "user", "content": "A poster with the title '新品上市'"}],
    )
    text = resp.choices[0].message.content
    url = re.search(r"!\[[^\]]*\]\((http[^)]+)\)", text)
    if url is None:
        raise SystemExit(f"no picture in {text!r}")
    with urllib.request.urlopen(url.group(1)) as answer:
        data = answer.read()
    check("chat", data, png_size(data))
    pieces = client.chat.completions.create(
        model="gpt-image-2-vip",
        messages=[
            {"role": "user", "content": "A poster"},
            {"role": "assistant", "content": text},
            {"role": "user", "content": "The same in red"},
        ],
        stream=True,
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)
    if "![" not in streamed:
        raise SystemExit(f"no picture in the stream: {streamed!r}")
    print("chat stream: ok")


def url_answer() -> None:
    """A link instead of base64."""
    resp = client.images.generate(
        model="gpt-image-2-vip", prompt="A lamp", size="1024x1024", response_format="url"
    )
    with urllib.request.urlopen(resp.data[0].url) as answer:
        check("b", answer.read(), (1024, 1024))


def streamed_partials() -> None:
    """Partial images while it is drawn."""
    stream = client.images.generate(
        model="gpt-image-2-vip",
        prompt="A lamp at night",
        size="1024x1024",
        stream=True,
        partial_images=2,
    )
    kinds = []
    for event in stream:
        kinds.append(event.type)
        check(f"stream-{len(kinds)}", base64.b64decode(event.b64_json), (1024, 1024))
    if kinds != ["image_generation.partial_image"] * 2 + ["image_generation.completed"]:
        raise SystemExit(f"unexpected events {kinds}")


def refusals() -> None:
    """The errors of the article's troubleshooting table."""
    for wrong, code, param in (
        ({"size": "1234x999"}, "invalid_value", "size"),
        ({"quality": "high"}, "unsupported_parameter", "quality"),
        ({"n": 2}, "unsupported_parameter", "n"),
    ):
        try:
            client.images.generate(model="gpt-image-2-vip", prompt="A lamp", **wrong)
        except openai.BadRequestError as error:
            if (error.code, error.param) != (code, param):
                raise SystemExit(f"{wrong}: {error}") from None
        else:
            raise SystemExit(f"{wrong} was accepted")
    print("refusals: ok")


async def concurrent() -> None:
    """Batches by asyncio.gather, as the article advises."""
    async with AsyncOpenAI(timeout=300) as many:
        answers = await asyncio.gather(
            *(
                many.images.generate(
                    model="gpt-image-2-vip", prompt=f"Style {number}", size="1280x720"
                )
                for number in range(4)
            )
        )
    for number, answer in enumerate(answers):
        check(f"batch-{number}", base64.b64decode(answer.data[0].b64_json), (1280, 720))


folder.mkdir(parents=True, exist_ok=True)
generate()
url_answer()
edit()
edit_single_bytes()
chat()
if hasattr(openai.types, "ImageGenCompletedEvent"):  # the SDK knows image streams since 1.97
    streamed_partials()
refusals()
asyncio.run(concurrent())
print("all programs of the article ran with openai", openai.__version__)

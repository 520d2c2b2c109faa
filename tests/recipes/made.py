"""What tests of recipes are made of: pictures without a gateway, and runs that have ended."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import pyvips

from safelight.client.figures import Figures
from safelight.client.gates import Verdict
from safelight.client.orders import Order
from safelight.client.runs.items import Accepted, Finished, Identities, Item, Plan, Review

SHOE = """<svg xmlns="http://www.w3.org/2000/svg" width="1600" height="1200">
<path d="M180 820C170 700 190 560 250 470C290 420 360 430 400 470C440 520 520 540 600 500L690 440
C760 540 900 640 1080 690C1250 735 1400 760 1420 860L1420 880L190 880Z" fill="#d8332f"/>
<path d="M640 470L760 640M710 500L820 670M770 570L880 700" stroke="#fff" stroke-width="26"/>
<path d="M420 800C560 640 640 720 820 760C960 790 1060 780 1150 740" fill="none" stroke="#fff"
stroke-width="44"/>
<path d="M165 860C160 950 190 980 260 985L1360 985C1440 980 1465 930 1440 860L1420 855L180 855Z"
fill="#e8eaee"/><path d="M200 985L1390 985L1370 1020L230 1020Z" fill="#2a2a30"/></svg>"""


def shoe(path: Path) -> Path:
    """Write the photo of a product, cut out."""
    pyvips.Image.svgload_buffer(SHOE.encode()).pngsave(str(path))
    return path


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (182, 102)) -> Path:
    """Write a picture of a disc in a colour."""
    width, height = size
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" fill="#f4f0ea"/>'
        f'<circle cx="{width / 2}" cy="{height / 2}" r="{height / 3}" fill="rgb{colour}"/></svg>'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pyvips.Image.svgload_buffer(svg.encode()).flatten().write_to_file(str(path))
    return path


def ended(
    folder: Path,
    prompts: Mapping[str, str],
    *,
    review: Mapping[str, str] | None = None,
    failed: Mapping[str, str] | None = None,
) -> Finished:
    """Return a run that has ended.

    Args:
        folder: of the run; gets a picture for each item that is not failed.
        prompts: by file stem; all that is not named below was accepted.
        review: why these are for review.
        failed: why there is no picture of these.
    """
    review, failed = review or {}, failed or {}
    ids = Identities()
    items = [
        Item(ids.of(order), order, out, details={"style": out})
        for out, prompt in prompts.items()
        for order in (Order(prompt, size="182x102"),)
    ]
    passed = Verdict("size", True, "182x102 pixels, as wanted")
    accepted, reviewed, lost = {}, {}, {}
    for number, item in enumerate(items):
        if item.out in failed:
            lost[item.id] = failed[item.out]
            continue
        path = picture(folder / f"{item.out}.png", (40 * number % 255, 120, 160))
        if item.out in review:
            said = Verdict("text", False, review[item.out])
            reviewed[item.id] = Review((path,), review[item.out], 60_000, 2, (passed, said))
        else:
            accepted[item.id] = Accepted(path, "0" * 64, 182, 102, 30_000, 1, (passed,))
    cost = 30_000 * len(accepted) + 60_000 * len(reviewed)
    plan = Plan("styles", tuple(items), finish=lambda _: ())
    return Finished(folder, plan, accepted, lost, reviewed, cost, Figures(3, 4.5, 3, 0, 3, 3))


def inflated(pdf: bytes) -> bytes:
    """Return a PDF with its compressed parts opened, one after the other."""
    parts = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    opened = [pdf]
    for part in parts:
        try:
            opened.append(zlib.decompress(part))
        except zlib.error:
            continue
    return b"\n".join(opened)

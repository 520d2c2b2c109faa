"""The recipes at the size people use them: thirty styles, four languages, twenty slides."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pptx
import pytest

from e2e.process import GatewayProcess, accounts
from recipes.conftest import Recipe
from recipes.made import shoe
from recipes.test_recipes import size_of
from recipes.test_slides import outside, pictures_of
from safelight.bench.faults.server import FaultUpstream
from safelight.client import AsyncClient, Client
from safelight.client.recipes.checks import checked_text
from safelight.client.recipes.products import products
from safelight.client.runs import run

pytestmark = pytest.mark.campaign

TEXTS = {
    "zh": ("新品上市", "立即购买"),
    "ja": ("新着アイテム", "今すぐ購入"),
    "ko": ("신상품 출시", "지금 구매"),
    "de": ("Neu eingetroffen", "Jetzt kaufen"),
    "hi": ("नए उत्पाद", "अभी खरीदें"),
}
WRONG = {"zh": "新品上新", "ja": "新着アイデム", "ko": "신상품 출사", "de": "Neu eingetrofen"}
MOTIFS = (
    *("light", "sea", "city", "garden", "mountain", "clock", "bridge", "music", "river", "winter"),
    *("coffee", "rocket", "cat", "market", "harbour", "paper", "wind", "island", "forest", "night"),
)


def test_thirty_styles_cost_ninety_cents(recipe: Recipe, tmp_path: Path) -> None:
    """All are accepted at the first roll, headline read by OCR, no two alike."""
    shoe(tmp_path / "shoe.png")
    done = recipe("products", "--photo", "shoe.png", "--copy", "新品上市", "--yes", "--json")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "products" / "manifest.json").read_text())
    assert json.dumps(manifest).count('"accepted"') >= 30
    made = sorted((tmp_path / "products").glob("shoe-*.png"))
    assert len(made) == 30
    assert {size_of(path) for path in made} == {(2048, 2048)}
    assert json.loads(done.out)["cost_micros"] == 900_000


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway whose one account sells sixty pictures a minute, each after eight seconds."""
    with FaultUpstream.in_thread("ok", latency_s=8.0) as upstream:
        config = accounts(upstream.base_url, images_per_minute=60)
        with GatewayProcess(tmp_path / "gateway", config) as gateway:
            yield gateway


async def test_thirty_styles_take_no_longer_than_the_pool_needs(
    pool: GatewayProcess, tmp_path: Path
) -> None:
    """At sixty a minute the thirtieth is bought after 29 s and takes 8: 1.2 times that at most.

    The vendor's pictures are all alike here, so they are not compared.
    """
    plan = products(shoe(tmp_path / "shoe.png"))
    items = tuple(replace(item, gates=item.gates[:2]) for item in plan.items)
    started = time.monotonic()
    async with AsyncClient(pool.base_url, pool.first_key) as client:
        result = await run(replace(plan, items=items), tmp_path / "shoes", client)
    took_s = time.monotonic() - started
    print(f"thirty pictures at sixty a minute: {took_s:.1f} s, 37 s by the pool's limit")
    assert result is not None
    assert len(result.ended.accepted) == 30
    assert took_s <= 1.2 * (29 + 8)


def test_posters_are_read_back_in_each_script_that_is_claimed(
    recipe: Recipe, gateway: GatewayProcess, tmp_path: Path
) -> None:
    """The right words pass; one wrong letter in them is found; others are said to be unchecked."""
    with Client(gateway.base_url, gateway.first_key) as client:
        prompt = 'Spring poster with a green hill, title "New arrivals", button "Shop now"'
        client.save(client.generate(prompt, size="1360x2048"), tmp_path / "poster_en.png")
    (tmp_path / "copy.toml").write_text(
        '[base]\ntitle = "New arrivals"\nbutton = "Shop now"\n'
        + "".join(
            f'[{code}]\ntitle = "{title}"\nbutton = "{button}"\n'
            for code, (title, button) in TEXTS.items()
        ),
        encoding="utf-8",
    )
    words = ("--base", "poster_en.png", "--languages", ",".join(TEXTS), "--texts", "copy.toml")
    done = recipe("posters", *words, "--yes")
    assert done.code == 0, done.err
    for code, wrong in WRONG.items():
        made = tmp_path / "posters" / f"poster-en-{code}.png"
        assert size_of(made) == (1360, 2048)
        right, other = checked_text(TEXTS[code][0]), checked_text(wrong)
        if right.remark:
            continue
        assert right.gates[0].check(made).passed
        assert not other.gates[0].check(made).passed
    assert "not checked by OCR" in (tmp_path / "posters" / "contact-sheet.html").read_text()


def test_a_deck_of_twenty_sections_has_twenty_pictures(recipe: Recipe, tmp_path: Path) -> None:
    sections = "".join(
        f"## Section {number}: {word}\n- a point about {word}\n- another\n> Note {number}.\n"
        for number, word in enumerate(MOTIFS, start=1)
    )
    (tmp_path / "talk.md").write_text(f"# A long talk\n{sections}", encoding="utf-8")
    done = recipe("deck", "--outline", "talk.md", "--out", "talk.pptx", "--yes")
    assert done.code == 0, done.err
    made = pptx.Presentation(str(tmp_path / "talk.pptx"))
    assert [shape.image.size for shape in pictures_of(made)] == [(1820, 1024)] * 20
    assert len(made.slides) == 21
    assert outside(made) == []
    assert all(slide.has_notes_slide for slide in list(made.slides)[1:])

"""`safelight run` with each recipe, against a gateway that draws proofs."""

from __future__ import annotations

import json
from pathlib import Path

import pptx
import pyvips

from e2e.process import GatewayProcess
from recipes.conftest import Recipe
from recipes.made import shoe
from recipes.test_slides import pictures_of
from safelight.client import Client


def size_of(path: Path) -> tuple[int, int]:
    image = pyvips.Image.new_from_file(str(path))
    return image.width, image.height


def test_products_come_in_their_styles_with_a_contact_sheet(recipe: Recipe, tmp_path: Path) -> None:
    shoe(tmp_path / "shoe.png")
    words = ("products", "--photo", "shoe.png", "--styles", "pure-white,neon-night")
    done = recipe(*words, "--size", "1024x1024", "--yes")
    assert done.code == 0, done.err
    assert "2 of 2 accepted" in done.out
    assert "$0.06" in done.out
    folder = tmp_path / "products"
    for style in ("pure-white", "neon-night"):
        assert size_of(folder / f"shoe-{style}.png") == (1024, 1024)
    assert (folder / "contact-sheet.html").is_file()
    assert (folder / "contact-sheet.pdf").is_file()
    again = recipe(*words, "--size", "1024x1024", "--yes", "--json")
    assert json.loads(again.out)["forecast"]["pictures"] == 0


def test_a_poster_is_accepted_when_its_words_are_read_in_it(
    recipe: Recipe, gateway: GatewayProcess, tmp_path: Path
) -> None:
    """What wrong words do, in several scripts, is the campaign's to show: reading takes seconds."""
    with Client(gateway.base_url, gateway.first_key) as client:
        base = client.generate('Poster, title "New in"', size="848x1280")
        client.save(base, tmp_path / "poster.png")
    (tmp_path / "copy.toml").write_text('[zh]\ntitle = "新品上市"\n', encoding="utf-8")
    words = ("--base", "poster.png", "--languages", "zh", "--texts", "copy.toml", "--yes")
    done = recipe("posters", *words)
    assert done.code == 0, done.err
    assert size_of(tmp_path / "posters" / "poster-zh.png") == (848, 1280)
    manifest = json.loads((tmp_path / "posters" / "manifest.json").read_text(encoding="utf-8"))
    said = {one["gate"]: one for one in manifest["items"][0]["rolls"][0]["verdicts"]}
    assert "新品上市" in said["text"]["measured"]["read"]


def test_a_deck_is_written_with_its_pictures(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "talk.md").write_text(
        "# A talk\n## One\n- first\n> Say this.\n## Two\n- second\n", encoding="utf-8"
    )
    done = recipe("deck", "--outline", "talk.md", "--out", "slides/talk.pptx", "--yes")
    assert done.code == 0, done.err
    made = pptx.Presentation(str(tmp_path / "slides" / "talk.pptx"))
    assert [shape.image.size for shape in pictures_of(made)] == [(1820, 1024)] * 2
    assert "talk.pptx" in (tmp_path / "deck" / "contact-sheet.html").read_text()


def test_faults_in_files_end_with_2_and_order_nothing(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "talk.md").write_text("# A talk\n## One\n| a | table |\n", encoding="utf-8")
    done = recipe("deck", "--outline", "talk.md", "--out", "talk.pptx", "--yes")
    assert done.code == 2
    assert "talk.md:3: tables are not set on slides" in done.err
    assert not (tmp_path / "deck").exists()

"""The gate near-duplicate: what it takes for the same picture, and its memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pyvips

from gates.posters import poster
from safelight.client.gates import NearDuplicate, Remembering
from safelight.client.gates.duplicates import fingerprint


def picture(seed: str) -> Any:
    return poster(("ALL", "NEW"), "Latin", seed).thumbnail_image(480)


def saved(image: Any, path: Path) -> Path:
    image.write_to_file(str(path))
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return saved(picture("shapes-3"), tmp_path / "first.png")


def test_the_first_picture_of_a_run_passes(first: Path) -> None:
    gate = NearDuplicate()
    assert isinstance(gate, Remembering)
    assert gate.check(first).passed
    assert gate.remember(first).passed


def _cropped(image: Any) -> Any:
    return image.crop(5, 5, image.width - 10, image.height - 10)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.resize(0.5),
        lambda image: image.gaussblur(1.2),
        lambda image: (image * 1.02).cast("uchar"),
        _cropped,
    ],
    ids=["jpeg", "half size", "blur", "brighter", "cropped by 1 %"],
)
def test_the_same_picture_changed_a_little_is_refused(
    change: Any, first: Path, tmp_path: Path
) -> None:
    gate = NearDuplicate()
    gate.remember(first)
    twin = saved(change(pyvips.Image.new_from_file(str(first))), tmp_path / "twin.jpg")
    verdict = gate.check(twin)
    assert not verdict.passed
    assert verdict.reason.startswith("is nearly the same as first.png (")
    assert int(verdict.measured["bits"]) <= 6


def test_other_pictures_pass(first: Path, tmp_path: Path) -> None:
    gate = NearDuplicate()
    gate.remember(first)
    for seed in ("a", "b", "c", "d"):
        assert gate.check(saved(picture(seed), tmp_path / f"{seed}.png")).passed


def test_the_same_drawing_in_other_colours_is_another_picture(first: Path, tmp_path: Path) -> None:
    gate = NearDuplicate()
    gate.remember(first)
    image = pyvips.Image.new_from_file(str(first))
    pale = saved((image * 0.6 + [90, 40, 0]).cast("uchar"), tmp_path / "pale.png")
    verdict = gate.check(pale)
    assert verdict.passed
    assert float(verdict.measured["colour"]) > 12


def test_only_accepted_pictures_are_compared_with(first: Path, tmp_path: Path) -> None:
    gate = NearDuplicate()
    gate.check(first)
    assert gate.check(saved(pyvips.Image.new_from_file(str(first)), tmp_path / "b.png")).passed


def test_a_picture_is_never_its_own_twin(first: Path) -> None:
    """A resumed run tells the gate what is in its folder, then may look at the same file again."""
    gate = NearDuplicate()
    gate.remember(first)
    assert gate.remember(first).passed
    assert gate.check(first).passed


def test_of_twins_judged_at_once_one_is_accepted(first: Path, tmp_path: Path) -> None:
    """Both pass their check while nothing is known; remembering is what decides."""
    gate = NearDuplicate()
    image = pyvips.Image.new_from_file(str(first))
    twins = [saved(image, tmp_path / f"{number}.png") for number in range(6)]
    assert all(gate.check(twin).passed for twin in twins)
    with ThreadPoolExecutor(6) as pool:
        verdicts = list(pool.map(gate.remember, twins))
    assert [verdict.passed for verdict in verdicts].count(True) == 1


def test_a_wider_distance_refuses_more(first: Path, tmp_path: Path) -> None:
    other = saved(picture("a"), tmp_path / "a.png")
    bits = fingerprint(first).distance(fingerprint(other))
    for distance, passed in ((bits - 1, True), (bits, False)):
        gate = NearDuplicate(distance, colour=255.0)
        gate.remember(first)
        assert gate.check(other).passed is passed


def test_a_broken_file_fails(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"broken")
    assert not NearDuplicate().check(path).passed
    assert not NearDuplicate().remember(path).passed

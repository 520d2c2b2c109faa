"""The gate text on real posters: a few of each claimed script (the campaign has hundreds)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from gates.phrases import cases, phrases
from gates.posters import poster
from gates.scoring import scored
from gates.tesseract_here import needs_tesseract
from safelight.client.gates import CLAIMED, Text
from safelight.client.gates.matching import Line
from safelight.client.gates.reading import LOOKS, reader_of


class Scripted:
    """Reads what the test says, look by look, and counts the looks."""

    def __init__(self, *looks: list[str]) -> None:
        self._looks = looks
        self.asked = 0

    def looks(self, picture: Path) -> Iterator[list[Line]]:
        assert picture
        for texts in self._looks:
            self.asked += 1
            yield [Line(text, 0, 30 * i, 200, 30 * i + 20) for i, text in enumerate(texts)]

    def unknown(self, text: str) -> str:
        return "" if text else text


@pytest.mark.parametrize(
    "script", [pytest.param(one, marks=needs_tesseract(one)) for one in sorted(CLAIMED)]
)
def test_right_texts_pass_and_wrong_ones_are_refused(script: str, tmp_path: Path) -> None:
    """One poster of the script, asked for its text and for one that is wrong by a character."""
    score = scored(cases(script, 1, seed=3), reader_of(phrases(script)[0]), tmp_path)
    assert score.errors == []
    assert (score.right_passed, score.wrong_refused) == (1, 1)


def test_texts_may_stand_on_several_lines(tmp_path: Path) -> None:
    """A headline that wraps is one text, and so is each of its lines."""
    path = tmp_path / "wrapped.png"
    poster(("The quiet", "machine"), "Latin", "4").write_to_file(str(path))
    verdict = Text(["The quiet machine"]).check(path)
    assert verdict.passed, verdict.reason


def test_the_models_come_with_the_package() -> None:
    """Nothing is fetched at run time: the files are in the installed package."""
    spec = importlib.util.find_spec("rapidocr")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "models"
    names = {path.name for path in folder.iterdir()}
    assert {"PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"} <= names


def test_the_first_look_that_reads_right_ends_it() -> None:
    reads = Scripted(["NEW"], ["never"])
    verdict = Text(["new"], reads=reads).check(Path("picture"))
    assert verdict.passed
    assert verdict.reason == "reads “new” as wanted"
    assert reads.asked == 1


def test_a_later_look_may_read_right() -> None:
    reads = Scripted(["NE"], [], ["NEW"], ["never"])
    assert Text(["NEW"], reads=reads).check(Path("picture")).passed
    assert reads.asked == 3


def test_texts_may_be_found_in_different_looks() -> None:
    reads = Scripted(["NEW", "Buy"], ["NE", "Buy now"])
    assert Text(["NEW", "Buy now"], reads=reads).check(Path("picture")).passed


def test_two_looks_that_read_the_same_wrong_text_end_it() -> None:
    reads = Scripted(["NEH"], ["NEH"], ["NEW"])
    verdict = Text(["NEW"], reads=reads).check(Path("picture"))
    assert not verdict.passed
    assert reads.asked == 2
    assert verdict.reason == "reads “NEH”, “NEW” wanted (1 character differs)"
    assert verdict.measured["wrong_characters"] == 1
    assert verdict.measured["read"] == "NEH"


def test_a_text_that_is_not_there_takes_all_looks_and_is_said() -> None:
    reads = Scripted(["other"], ["other"], [], ["something else"])
    verdict = Text(["新品上市"], reads=reads).check(Path("picture"))
    assert not verdict.passed
    assert reads.asked == len(LOOKS)
    assert verdict.reason.startswith("“新品上市” is not there; reads “")


def test_allowed_mistakes_are_allowed() -> None:
    assert Text(["Marathon"], mistakes=1, reads=Scripted(["Marathom"])).check(Path("p")).passed
    assert not Text(["Marathon"], mistakes=1, reads=Scripted(["Marsthom"])).check(Path("p")).passed

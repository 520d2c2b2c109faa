"""The command tesseract: what it reads, what it lacks, and what is said where it does not work."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gates.tesseract_here import needs_tesseract
from safelight.client.gates import ReaderFailed, Text, UnreadableScript
from safelight.client.gates.scripts import languages

Fake = Callable[[str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a command on the PATH that has Korean, and reads as the test says."""
    names = "4\nNULL 0\n신 1\n제 1\n품 1\n".encode()
    table = struct.pack("<i24q", 24, *[-1] * 21, 196, -1, -1)
    for name in ("kor", "eng"):
        (tmp_path / f"{name}.traineddata").write_bytes(table + names)
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(reading: str) -> None:
        listed = f'List of available languages in "{tmp_path}/" (2):\\neng\\nkor'
        file = tmp_path / "tesseract"
        file.write_text(
            f"#!{sys.executable}\nimport os, sys\n"
            f"if '--list-langs' in sys.argv: print('{listed}'); sys.exit()\n{reading}\n"
        )
        file.chmod(0o755)

    return write


def test_without_the_command_the_refusal_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreadableScript, match=r"not installed; install it .*tesseract-ocr-kor"):
        Text(["신제품"])


def test_a_syllable_that_the_language_lacks_is_refused_before_anything_is_spent(fake: Fake) -> None:
    fake("")
    assert Text(["신제품"]).wanted == ("신제품",)
    with pytest.raises(UnreadableScript, match="the character 꽃"):
        Text(["신제품 꽃"])


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        ("sys.exit(3)", "ended with code 3"),
        ("os.write(1, bytes([255, 254]))", "no UTF-8"),
        ("os.write(1, b'x' * 100_000)", "more than one line"),
    ],
)
def test_a_command_that_fails_says_nothing_about_the_picture(
    fake: Fake, reading: str, says: str
) -> None:
    from safelight.client.gates.tesseract import tesseract

    fake(reading)
    with pytest.raises(ReaderFailed, match=says):
        tesseract("kor", "eng").read(b"P5 1 1 255\n\0")


def test_the_command_is_told_no_secret(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.client.gates.tesseract import tesseract

    monkeypatch.setenv("SAFELIGHT_API_KEY", "secret")
    fake("print(os.environ.get('SAFELIGHT_API_KEY'), os.environ['OMP_THREAD_LIMIT'])")
    assert tesseract("kor", "eng").read(b"") == "None 1"


def test_which_texts_tesseract_reads() -> None:
    assert languages("NEW 신제품") == ("kor", "eng")
    assert languages("新品 NEW") == ()
    with pytest.raises(ValueError, match="Chinese and Korean in one text"):
        languages("新品 신제품")


@needs_tesseract("Korean")
def test_korean_and_chinese_may_be_wanted_in_one_picture() -> None:
    """As texts of their own, each read by its reader."""
    assert Text(["신제품", "新品上市"]).wanted == ("신제품", "新品上市")

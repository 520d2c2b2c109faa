"""The keyring: made once, kept safe, rotated without breaking what is out there."""

from __future__ import annotations

import json
import logging
import pickle
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.keyring import Keyring, hkdf_sha256


def secret_words(folder: Path) -> list[str]:
    content = json.loads((folder / "secrets.json").read_text())
    return [*content["pepper"]["keys"].values(), *content["links"]["keys"].values()]


def test_first_use_makes_a_file_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    keyring = Keyring.load_or_create(folder)
    file = folder / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [file]
    assert keyring.current_kid == "k1"
    assert keyring.live_kids == ("k1",)
    assert len(keyring.pepper()) == len(keyring.link_key("k1")) == 32


def test_a_second_start_reads_the_same_secrets(tmp_path: Path) -> None:
    first, second = Keyring.load_or_create(tmp_path), Keyring.load_or_create(tmp_path)
    assert first.pepper() == second.pepper()
    assert first.link_key("k1") == second.link_key("k1")


def test_every_folder_has_its_own_secrets(tmp_path: Path) -> None:
    one, two = Keyring.load_or_create(tmp_path / "1"), Keyring.load_or_create(tmp_path / "2")
    assert len({one.pepper(), two.pepper(), one.link_key("k1"), two.link_key("k1")}) == 4
    assert len({*secret_words(tmp_path / "1"), *secret_words(tmp_path / "2")}) == 4


def test_many_first_starts_at_once_agree(tmp_path: Path) -> None:
    """Whoever is first makes the file; nobody reads half of one and nobody replaces it."""
    count = 16
    barrier = threading.Barrier(count)

    def start(_: int) -> bytes:
        barrier.wait()
        return Keyring.load_or_create(tmp_path).pepper()

    with ThreadPoolExecutor(count) as pool:
        assert len(set(pool.map(start, range(count)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_a_file_open_to_others_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Keyring.load_or_create(tmp_path)
    file = tmp_path / "secrets.json"
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Keyring.load_or_create(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "644" in caplog.text


def test_secrets_do_not_show(tmp_path: Path) -> None:
    """Neither repr nor a pickle nor the repr of its parts gives a secret away."""
    keyring = Keyring.load_or_create(tmp_path)
    shown = f"{keyring!r} {keyring!s} {keyring._secrets!r}"
    hidden = [*secret_words(tmp_path), keyring.pepper().hex(), keyring.link_key("k1").hex()]
    assert not [word for word in hidden if word in shown]
    with pytest.raises(TypeError):
        pickle.dumps(keyring)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text[:0],
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"current": "k1"', '"current": "k2"'),
        lambda text: text.replace('"k1": "', '"k1": "zz'),
        lambda text: text.replace('"k1": "', '"x1": "').replace(
            '"current": "k1"', '"current": "x1"'
        ),
        lambda text: text.replace('"pepper"', '"salt"'),
    ],
)
def test_a_damaged_file_is_refused_and_not_quoted(tmp_path: Path, change: object) -> None:
    Keyring.load_or_create(tmp_path)
    file = tmp_path / "secrets.json"
    words = secret_words(tmp_path)
    before = file.read_text()
    assert callable(change)
    after = change(before)
    assert after != before
    file.write_text(after)
    with pytest.raises(ConfigError, match=r"secrets\.json is damaged") as caught:
        Keyring.load_or_create(tmp_path)
    assert not [word for word in words if word in str(caught.value)]
    assert file.read_text() == after


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="keeps its secrets there"):
        Keyring.load_or_create(tmp_path / "file" / "data")


def test_rotation_keeps_the_key_before_and_ends_older_ones(tmp_path: Path) -> None:
    keyring = Keyring.load_or_create(tmp_path)
    pepper, first = keyring.pepper(), keyring.link_key("k1")
    assert keyring.rotate_links() == "k2"
    assert (keyring.current_kid, keyring.live_kids) == ("k2", ("k1", "k2"))
    assert keyring.link_key("k1") == first != keyring.link_key("k2")
    assert keyring.rotate_links() == "k3"
    assert keyring.live_kids == ("k2", "k3")
    with pytest.raises(KeyError):
        keyring.link_key("k1")
    again = Keyring.load_or_create(tmp_path)
    assert again.live_kids == ("k2", "k3")
    assert again.link_key("k3") == keyring.link_key("k3")
    assert again.pepper() == pepper
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_rotations_at_once_each_make_a_key(tmp_path: Path) -> None:
    """No rotation overwrites another: ids count on."""
    rings = [Keyring.load_or_create(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(Keyring.rotate_links, rings))
    assert sorted(made) == [f"k{number}" for number in range(2, 10)]
    assert Keyring.load_or_create(tmp_path).live_kids == ("k8", "k9")


@pytest.mark.parametrize(
    ("secret", "salt", "info", "length", "expected"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            82,
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
                "cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_gives_the_rfcs_results(
    secret: bytes, salt: bytes, info: bytes, length: int, expected: str
) -> None:
    """The three SHA-256 test vectors of RFC 5869, appendix A."""
    assert hkdf_sha256(secret, salt=salt, info=info, length=length).hex() == expected


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_hkdf_refuses_a_length_it_cannot_give(length: int) -> None:
    with pytest.raises(ValueError, match="HKDF"):
        hkdf_sha256(b"secret", salt=b"", info=b"", length=length)

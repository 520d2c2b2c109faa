"""Signed links: one spelling, one lifetime, and nothing else opens a picture."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.clock import ManualClock
from safelight.errors import NotFound
from safelight.keyring import Keyring
from safelight.links import LinkInvalid, Links, find_link, parse_path

IMAGE = "0123456789abcdef0123456789abcdef"
DAY = 24 * 3600


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.load_or_create(tmp_path_factory.mktemp("keyring"))


@pytest.fixture
def links(keyring: Keyring, clock: ManualClock) -> Links:
    return Links(keyring, clock)


def check(links: Links, link: str, *, link_epoch: int = 0) -> None:
    """Verify a link as a server does that splits it at the first question mark."""
    path, _, query = link.partition("?")
    links.verify(path, query, link_epoch=link_epoch)


def refused(links: Links, link: str, *, link_epoch: int = 0) -> LinkInvalid:
    with pytest.raises(LinkInvalid) as caught:
        check(links, link, link_epoch=link_epoch)
    return caught.value


def test_a_link_has_the_documented_form(links: Links, clock: ManualClock) -> None:
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    path, _, query = link.partition("?")
    fields = dict(field.split("=") for field in query.split("&"))
    assert path == f"/i/{IMAGE}.png"
    assert list(fields) == ["e", "k", "s"]
    assert fields["e"] == str(clock.now_ms() // 1000 + 60)
    assert fields["k"] == "k1"
    assert len(fields["s"]) == 43  # 256 bits


@pytest.mark.parametrize("ext", ["png", "jpeg", "webp"])
def test_a_fresh_link_is_good(links: Links, ext: str) -> None:
    check(links, links.sign(IMAGE, ext, ttl_s=DAY, link_epoch=7), link_epoch=7)


# --- time -------------------------------------------------------------------------------


def test_a_link_ends_on_the_second(links: Links, clock: ManualClock) -> None:
    """Good until a millisecond before its expiry, expired from then on."""
    link = links.sign(IMAGE, "png", ttl_s=DAY, link_epoch=0)
    clock.advance(DAY - 0.001)
    check(links, link)
    clock.advance(0.001)
    assert refused(links, link).expired
    clock.advance(1)
    error = refused(links, link)
    assert error.expired
    assert error.status == 404


def test_only_a_right_signature_makes_an_expired_link(links: Links, clock: ManualClock) -> None:
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    clock.advance(61)
    assert refused(links, link).expired
    assert not refused(links, link, link_epoch=1).expired
    assert not refused(links, link.replace("/i/0", "/i/1")).expired


def test_a_signature_for_longer_than_the_limit_is_not_taken(
    keyring: Keyring, clock: ManualClock
) -> None:
    """Not even a rightly signed link outlives the limit of the one who verifies."""
    link = Links(keyring, clock, max_ttl_s=DAY + 1).sign(IMAGE, "png", ttl_s=DAY + 1, link_epoch=0)
    links = Links(keyring, clock)
    assert not refused(links, link).expired
    clock.advance(1)
    check(links, link)


@pytest.mark.parametrize("ttl_s", [0, -1, DAY + 1])
def test_a_life_out_of_range_is_not_signed(links: Links, ttl_s: int) -> None:
    with pytest.raises(ValueError, match="a link lives"):
        links.sign(IMAGE, "png", ttl_s=ttl_s, link_epoch=0)


@pytest.mark.parametrize(
    ("image_id", "ext"),
    [("", "png"), (IMAGE[:-1], "png"), (IMAGE.upper(), "png"), (IMAGE, "gif"), ("../etc", "png")],
)
def test_what_is_no_image_is_not_signed(links: Links, image_id: str, ext: str) -> None:
    with pytest.raises(ValueError, match="no image"):
        links.sign(image_id, ext, ttl_s=60, link_epoch=0)


# --- changes ----------------------------------------------------------------------------


def test_any_changed_character_is_refused(links: Links) -> None:
    """Every position, every other 8-bit character: 404, and never a word about expiry."""
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    for at, old in enumerate(link):
        for code in range(256):
            if chr(code) != old:
                assert not refused(links, link[:at] + chr(code) + link[at + 1 :]).expired


def test_any_missing_added_or_swapped_character_is_refused(links: Links) -> None:
    link = links.sign(IMAGE, "webp", ttl_s=60, link_epoch=0)
    for at in range(len(link)):
        refused(links, link[:at] + link[at + 1 :])
        refused(links, link[:at])
        if link[at : at + 2] != link[at : at + 2][::-1]:
            refused(links, link[:at] + link[at : at + 2][::-1] + link[at + 2 :])
    for at in range(len(link) + 1):
        for extra in "0aA&=%? \n\0/=-_":
            refused(links, link[:at] + extra + link[at:])


def test_the_signature_has_one_spelling(links: Links) -> None:
    """The last base64 digit carries two spare bits: other digits for the same bytes are refused."""
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    index = digits.index(link[-1])
    same_bytes = [digits[index & ~3 | spare] for spare in range(4)]
    assert link[-1] in same_bytes
    for digit in set(same_bytes) - {link[-1]}:
        refused(links, link[:-1] + digit)
    refused(links, link + "=")


@given(text=st.text())
def test_no_other_text_is_a_link(keyring: Keyring, text: str) -> None:
    links = Links(keyring, ManualClock())
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    path, _, query = link.partition("?")
    for changed in (text, link + text, text + link, f"{path}?{text}", f"{text}?{query}"):
        if changed != link:
            refused(links, changed)


def test_only_the_three_parameters_in_their_order_are_taken(links: Links) -> None:
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    path, _, query = link.partition("?")
    e, k, s = query.split("&")
    for fields in (
        (k, e, s), (s, k, e), (e, s, k), (e, k), (e, s), (k, s), (),
        (e, e, k, s), (e, k, k, s), (e, k, s, s), (e, k, s, "x=1"), ("x=1", e, k, s), (e, k, s, ""),
    ):  # fmt: skip
        refused(links, f"{path}?{'&'.join(fields)}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/i/", "/i//"),
        ("/i/", "/./i/"),
        ("/i/", "//i/"),
        ("/i/", "/%69/"),
        ("/i/", "/I/"),
        ("abcdef", "ABCDEF"),
        (".png", ".PNG"),
        (".png", "%2Epng"),
        (".png", ".png/"),
        (".png", ".webp"),
        ("?e=", "?e=0"),
        ("?e=", "?e=+"),
        ("?e=", "?e=%31"),
        ("?e=", "?E="),
        ("&k=k1", "&k=k01"),
        ("&k=k1", "&k=k2"),
        ("&k=k1", "&k=K1"),
        ("&k=", ";k="),
        ("&k=", "&amp;k="),
    ],
)
def test_other_spellings_are_refused(links: Links, old: str, new: str) -> None:
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    changed = link.replace(old, new)
    assert changed != link
    refused(links, changed)


def test_digits_of_other_scripts_are_refused(links: Links) -> None:
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    refused(links, link.replace("e=1", "e=\u0661"))


# --- keys and epochs --------------------------------------------------------------------


def test_raising_the_epoch_ends_all_links(links: Links) -> None:
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=3)
    check(links, link, link_epoch=3)
    for epoch in (0, 2, 4, 33):
        refused(links, link, link_epoch=epoch)


def test_another_folders_key_signs_nothing_here(
    links: Links, clock: ManualClock, tmp_path: Path
) -> None:
    foreign = Links(Keyring.load_or_create(tmp_path), clock)
    refused(links, foreign.sign(IMAGE, "png", ttl_s=60, link_epoch=0))


def test_a_link_survives_one_rotation_of_the_key(clock: ManualClock, tmp_path: Path) -> None:
    keyring = Keyring.load_or_create(tmp_path)
    links = Links(keyring, clock)
    old = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    keyring.rotate_links()
    new = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    assert "&k=k2&" in new
    check(links, old)
    check(links, new)
    refused(links, old.replace("k=k1", "k=k2"))
    keyring.rotate_links()
    assert not refused(links, old).expired
    check(links, new)


def test_the_answer_does_not_say_what_was_wrong(links: Links) -> None:
    """One message for all that is not ours; a 404 like any other."""
    link = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    bad = [link[:-1], link.replace("k1", "k9"), link.replace("/i/0", "/i/1"), "/etc/passwd", ""]
    errors = [refused(links, one) for one in bad]
    assert len({error.message for error in errors}) == 1
    assert all(isinstance(error, NotFound) for error in errors)


# --- parsing ----------------------------------------------------------------------------


def test_a_path_is_taken_apart(links: Links) -> None:
    assert parse_path(f"/i/{IMAGE}.jpeg") == (IMAGE, "jpeg")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        f"/i/{IMAGE}",
        f"/i/{IMAGE}.gif",
        f"/i/{IMAGE[1:]}.png",
        f"/i/{IMAGE}.png\n",
        f"i/{IMAGE}.png",
    ],
)
def test_what_is_no_path_of_ours_is_refused(path: str) -> None:
    with pytest.raises(LinkInvalid):
        parse_path(path)


HERE = "https://images.example.com/pictures/"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        (f"https://images.example.com/pictures/i/{IMAGE}.png?e=1&k=k1&s=x", True),
        (f"https://images.example.com/pictures/i/{IMAGE}.png", True),
        (f"HTTPS://Images.Example.com/pictures/i/{IMAGE}.webp", True),
        (f"https://images.example.com/pictures/i/{IMAGE}.jpeg?e=1#top", True),
        (f"/i/{IMAGE}.png?e=1&k=k1&s=x", True),
        (f" /i/{IMAGE}.png ", True),
        (f"http://127.0.0.1:8080/i/{IMAGE}.png", False),
        (f"https://images.example.com/i/{IMAGE}.png", False),
        (f"https://evil.example/pictures/i/{IMAGE}.png", False),
        (f"https://images.example.com.evil.example/pictures/i/{IMAGE}.png", False),
        (f"https://images.example.com@evil.example/pictures/i/{IMAGE}.png", False),
        (f"https://user@images.example.com/pictures/i/{IMAGE}.png", False),
        (f"https://images.example.com:444/pictures/i/{IMAGE}.png", False),
        (f"http://images.example.com/pictures/i/{IMAGE}.png", False),
    ],
)
def test_links_are_found_at_any_host_and_placed(url: str, here: bool) -> None:
    """One gateway has several names, so the path tells a link, and the host only where it is."""
    link = find_link(url)
    assert link is not None
    assert (link.image_id, link.is_at(HERE)) == (IMAGE, here)


def test_a_found_link_can_be_verified_wherever_it_stands(keyring: Keyring) -> None:
    """What is before the link's own path is not part of what was signed."""
    links = Links(keyring, ManualClock())
    signed = links.sign(IMAGE, "png", ttl_s=60, link_epoch=0)
    for base in ("", HERE.rstrip("/"), "http://127.0.0.1:8080", "https://evil.example/a/b"):
        link = find_link(base + signed)
        assert link is not None
        links.verify(link.path, link.query, link_epoch=0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"//images.example.com/i/{IMAGE}.png",
        f"https:/i/{IMAGE}.png",
        f"/x/i/{IMAGE}.png",
        f"https://images.example.com/i/{IMAGE}.gif",
        f"https://images.example.com/i/{IMAGE}.png/x",
        f"https://images.example.com/%69/{IMAGE}.png",
        f"i/{IMAGE}.png",
        f"data:/i/{IMAGE}.png",
        f"ftp://images.example.com/i/{IMAGE}.png",
        "https://[/i/",
        f"https://evil.example/?u=https://images.example.com/i/{IMAGE}.png",
        f"https://images.example.com/{'x' * 5000}/i/{IMAGE}.png",
    ],
)
def test_other_addresses_are_no_links(url: str) -> None:
    assert find_link(url) is None


@given(url=st.text())
def test_finding_links_never_raises(url: str) -> None:
    assert find_link(url) is None
    assert find_link("https://" + url) is None

"""Signing in over HTTP: cookies, what proves a browser's call, ends of sessions, and brakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from api.visitors import HOST, House, open_house
from safelight import admin_acts, key_text
from safelight.administration.brakes import ADDRESS_EVERY_S, ADDRESS_TRIES
from safelight.browser_sessions import IDLE_MS, LONGEST_MS, OF_A_KEY

PICTURE = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
WRONG = "sl_admin_" + "x" * 46
CUSTOMER, ADMIN = "/v1/session", "/admin/v1/session"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path / "data") as found:
        yield found


def code_of(answer: object) -> tuple[int, str | None]:
    """Return status and error code of an answer."""
    body = answer.json()  # type: ignore[attr-defined]
    return answer.status, body.get("error", {}).get("code")  # type: ignore[attr-defined]


# --- the cookie ---


@pytest.mark.parametrize("door", [CUSTOMER, ADMIN])
async def test_a_key_goes_out_once_and_a_cookie_stands_for_it(house: House, door: str) -> None:
    """The cookie is HttpOnly and SameSite=Strict; the answer has the token and never the key."""
    browser = house.visitor()
    key = house.key if door == CUSTOMER else next(iter(house.admin.values()))
    answer = await browser.sign_in(key, door)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert key not in cookie + answer.body.decode()
    assert answer.headers["cache-control"] == "no-store"
    assert (await browser.ask("GET", door)).json() == answer.json()
    assert next(iter(browser.cookies.values())) not in answer.body.decode()


async def test_the_answer_says_who_is_signed_in_and_until_when(house: House) -> None:
    operator = await house.operator()
    said = (await operator.ask("GET", ADMIN)).json()
    now_s = house.clock.now_ms() // 1000
    assert (said["object"], said["name"], said["role"]) == ("session", "the owner", "owner")
    assert said["ends_at"] == now_s + IDLE_MS // 1000
    customer = await house.customer()
    said = (await customer.ask("GET", CUSTOMER)).json()
    assert (said["name"], said["role"]) == ("team", None)


@pytest.mark.parametrize(
    ("config", "headers", "scheme"),
    [
        ('[server]\npublic_url = "https://images.example.com"\n', {}, "http"),
        ("", {"x-forwarded-proto": "https"}, "http"),
        ("", {}, "https"),
    ],
)
async def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(
    tmp_path: Path, config: str, headers: dict[str, str], scheme: str
) -> None:
    """`__Host-`, and nothing under the plain name is believed there."""
    async with open_house(tmp_path / "data", config) as found:
        browser = found.visitor(scheme=scheme)
        answer = await browser.ask("POST", CUSTOMER, {"key": found.key}, headers=headers)
        morsel = SimpleCookie(answer.headers["set-cookie"])["__Host-safelight_customer"]
        assert (morsel["secure"], morsel["path"], morsel["domain"]) == (True, "/", "")
        assert (await browser.ask("GET", CUSTOMER, headers=headers)).status == 200
        browser.cookies = {"safelight_customer": morsel.value}
        assert (await browser.ask("GET", CUSTOMER, headers=headers)).status == 401


async def test_a_new_sign_in_ends_the_session_before_it(house: House) -> None:
    """What the browser held, whoever put it there, opens nothing afterwards."""
    browser = await house.customer()
    before = dict(browser.cookies)
    await browser.sign_in(house.key)
    assert browser.cookies != before
    browser.cookies = before
    assert code_of(await browser.ask("GET", CUSTOMER)) == (401, "session_over")


async def test_a_made_up_cookie_opens_nothing(house: House) -> None:
    for cookie in ("", "x", "a" * 43, "ä", "x" * 5000, "../..", "%00"):
        jar = {"safelight_customer": cookie, "safelight_operator": cookie}
        browser = house.visitor(cookies=jar)
        assert (await browser.ask("GET", "/v1/jobs")).status == 401
        assert (await browser.ask("GET", "/admin/v1/sessions")).status == 401


async def test_each_door_has_its_own_cookie(house: House) -> None:
    """A customer's session opens nothing of the operators', under either name, nor the reverse."""
    customer, operator = await house.customer(), await house.operator()
    assert (await customer.ask("GET", "/admin/v1/sessions")).status == 401
    assert (await operator.ask("GET", "/v1/jobs")).status == 401
    customer.cookies = {"safelight_operator": customer.cookies["safelight_customer"]}
    operator.cookies = {"safelight_customer": operator.cookies["safelight_operator"]}
    assert code_of(await customer.ask("GET", "/admin/v1/sessions")) == (401, "session_over")
    assert (await operator.ask("GET", "/v1/jobs")).status == 401


# --- what proves a call ---


async def test_a_customers_browser_does_what_the_console_needs(house: House) -> None:
    """A picture from order to gallery, its events, money and batches, without a key in the page."""
    browser = await house.customer()
    made = await browser.ask(
        "POST", "/v1/images/generations", PICTURE, headers={"prefer": "respond-async"}
    )
    assert made.status == 202
    job = made.json()["id"]
    events = await browser.ask("GET", f"/v1/jobs/{job}/events", headers={"x-safelight-csrf": None})
    assert events.status == 200
    assert events.headers["content-type"].startswith("text/event-stream")
    for method, target, body in (
        ("GET", "/v1/jobs", None),
        ("GET", f"/v1/jobs/{job}/receipt", None),
        ("POST", f"/v1/jobs/{job}/cancel", None),
        ("GET", "/v1/images", None),
        ("GET", "/v1/files", None),
        ("GET", "/v1/batches", None),
        ("GET", "/v1/webhooks", None),
        ("GET", "/v1/billing/balance", None),
        ("GET", "/v1/billing/statement", None),
        ("POST", "/v1/quote", PICTURE),
        ("GET", "/v1/sizes", None),
    ):
        answer = await browser.ask(method, target, body)
        assert answer.status in (200, 409), (target, answer.body)


PROOFS: tuple[tuple[dict[str, str | None], bool], ...] = (
    ({}, True),
    ({"x-safelight-csrf": None}, False),
    ({"x-safelight-csrf": ""}, False),
    ({"x-safelight-csrf": "0" * 64}, False),
    ({"x-safelight-csrf": "ä"}, False),
    ({"sec-fetch-site": "same-origin"}, True),
    ({"sec-fetch-site": "none"}, True),
    ({"sec-fetch-site": "same-site"}, False),
    ({"sec-fetch-site": "cross-site"}, False),
    ({"sec-fetch-site": "same-origin", "origin": "https://elsewhere"}, True),
    ({"sec-fetch-site": "cross-site", "origin": f"http://{HOST}"}, False),
    ({"origin": f"http://{HOST}"}, True),
    ({"origin": f"https://{HOST}"}, True),
    ({"origin": "https://evil.example"}, False),
    ({"origin": f"https://{HOST}.evil.example"}, False),
    ({"origin": f"http://{HOST}:8081"}, False),
    ({"origin": "null"}, False),
    ({"origin": "https://["}, False),
)
"""What comes with a session's call, beside its own token where that is not said; does it pass?"""


async def test_a_state_changing_call_of_a_session_proves_where_it_comes_from(house: House) -> None:
    """The session's token, and nothing said by the browser that another site sends it."""
    browser = await house.customer()
    wrong = []
    for headers, passes in PROOFS:
        answer = await browser.ask("POST", "/v1/quote", PICTURE, headers=headers)
        if code_of(answer) != ((200, None) if passes else (403, "csrf_failed")):
            wrong.append((headers, answer.status))
    assert wrong == []


async def test_the_token_of_one_session_is_of_no_use_to_another(house: House) -> None:
    one, another = await house.customer(), await house.customer()
    assert one.csrf != another.csrf
    one.csrf = another.csrf
    assert code_of(await one.ask("POST", "/v1/quote", PICTURE)) == (403, "csrf_failed")


async def test_public_url_is_ours_too(tmp_path: Path) -> None:
    """A proxy may ask under another Host than the one that browsers see."""
    config = '[server]\npublic_url = "http://images.example.com:8443"\n'
    async with open_house(tmp_path / "data", config) as found:
        browser = await found.customer()
        for origin, status in (
            ("http://images.example.com:8443", 200),
            ("http://images.example.com", 403),
        ):
            headers = {"origin": origin, "host": "inside:8080"}
            answer = await browser.ask("POST", "/v1/quote", PICTURE, headers=headers)
            assert answer.status == status


@pytest.mark.parametrize("door", [CUSTOMER, ADMIN])
async def test_another_sites_page_signs_nobody_in_or_out(house: House, door: str) -> None:
    """Nobody shall work in a stranger's name without knowing it (login CSRF)."""
    foreign = {"origin": "https://evil.example"}
    browser = house.visitor()
    answer = await browser.ask("POST", door, {"key": house.key}, headers=foreign)
    assert code_of(answer) == (403, "csrf_failed")
    assert browser.cookies == {}
    signed = await house.customer() if door == CUSTOMER else await house.operator()
    answer = await signed.ask("DELETE", door, headers={"x-safelight-csrf": None})
    assert code_of(answer) == (403, "csrf_failed")
    assert (await signed.ask("GET", door)).status == 200


async def test_a_key_in_the_call_goes_before_the_cookie(house: House) -> None:
    """A program that sends a key is never answered for the browser's customer."""
    browser = await house.customer()
    browser.key = house.other_key
    assert (await browser.ask("GET", "/v1/billing/balance")).json()["posted_micros"] == 1_000_000
    browser.key = "sl_live_wrong"
    assert code_of(await browser.ask("GET", "/v1/jobs")) == (401, "invalid_api_key")
    browser.key = None
    password = {"authorization": "Basic b3duZXI6cHJveHk="}
    assert (await browser.ask("GET", "/v1/jobs", headers=password)).status == 200


async def test_without_key_and_cookie_the_answer_is_the_old_one(house: House) -> None:
    answer = await house.visitor().ask("GET", "/v1/jobs")
    assert code_of(answer) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["error"]["message"]


# --- ends ---


async def test_a_session_is_over_twelve_hours_after_its_last_call(house: House) -> None:
    browser = await house.customer()
    for _ in range(3):
        house.clock.advance(IDLE_MS / 1000 - 1)
        assert (await browser.ask("GET", "/v1/jobs")).status == 200
    house.clock.advance(IDLE_MS / 1000)
    assert code_of(await browser.ask("GET", "/v1/jobs")) == (401, "session_over")


async def test_a_session_is_over_after_seven_days_whatever_is_called(house: House) -> None:
    browser = await house.operator()
    hours = LONGEST_MS // 1000 // 3600
    for _ in range(hours // 6 - 1):
        house.clock.advance(6 * 3600)
        assert (await browser.ask("GET", ADMIN)).status == 200
    house.clock.advance(6 * 3600)
    assert code_of(await browser.ask("GET", ADMIN)) == (401, "session_over")


@pytest.mark.parametrize("door", [CUSTOMER, ADMIN])
async def test_signing_out_ends_the_session_and_takes_the_cookie(house: House, door: str) -> None:
    """What somebody kept of the cookie opens nothing; to sign out again changes nothing."""
    browser = await house.customer() if door == CUSTOMER else await house.operator()
    kept = dict(browser.cookies)
    assert (await browser.ask("DELETE", door)).status == 204
    assert browser.cookies == {}
    browser.cookies = kept
    assert code_of(await browser.ask("GET", door)) == (401, "session_over")
    assert (await browser.ask("DELETE", door)).status == 204
    assert (await house.visitor().ask("DELETE", door)).status == 204


async def test_a_revoked_key_ends_its_sessions_at_once(house: House) -> None:
    """By a command beside the server, with no time between; other keys' sessions go on."""
    customer, operator = await house.customer(), await house.operator()
    other = house.visitor()
    await other.sign_in(house.other_key)
    for key in (house.key, next(reversed(house.admin.values()))):
        prefix = key_text.CUSTOMER if key == house.key else key_text.ADMIN
        key_id = key.removeprefix(prefix)[:8]
        assert await house.office.revoke_key(key_id) or await house.office.revoke_admin_key(key_id)
    assert code_of(await customer.ask("GET", "/v1/jobs")) == (401, "session_over")
    assert code_of(await operator.ask("GET", "/admin/v1/sessions")) == (401, "session_over")
    assert (await other.ask("GET", "/v1/jobs")).status == 200


async def test_a_frozen_customer_is_signed_out_at_once_and_not_let_in(house: House) -> None:
    browser = await house.customer()
    await house.office.freeze("team", "looked into")
    assert code_of(await browser.ask("GET", "/v1/jobs")) == (401, "session_over")
    again = await house.visitor().ask("POST", CUSTOMER, {"key": house.key})
    assert code_of(again) == (403, "customer_frozen")
    assert (await house.visitor(house.key).ask("GET", "/v1/jobs")).status == 200


async def test_sessions_of_a_key_are_bounded_the_oldest_goes_first(house: House) -> None:
    first = await house.customer()
    for _ in range(OF_A_KEY):
        house.clock.advance(1)
        last = await house.customer()
    assert (await first.ask("GET", "/v1/jobs")).status == 401
    assert (await last.ask("GET", "/v1/jobs")).status == 200
    owner = house.visitor(next(reversed(house.admin.values())))
    listed = (await owner.ask("GET", "/admin/v1/sessions")).json()["data"]
    assert len(listed) == OF_A_KEY


# --- wrong keys ---


async def test_a_body_without_a_key_is_refused(house: House) -> None:
    """As bad input, not as a wrong key: it does not count for the brakes."""
    bodies: tuple[object, ...] = (None, [], {}, {"key": 1}, {"key": ""}, {"key": "x", "y": 1})
    for body in bodies:
        for door in (CUSTOMER, ADMIN):
            assert (await house.visitor().ask("POST", door, body)).status == 400


@pytest.mark.parametrize(
    ("door", "code"), [(CUSTOMER, "invalid_api_key"), (ADMIN, "invalid_admin_key")]
)
async def test_wrong_keys_are_slowed_and_the_right_one_from_elsewhere_is_not(
    house: House, door: str, code: str
) -> None:
    """After ten, 429 with Retry-After; time lets one more through, of the same address."""
    key = house.key if door == CUSTOMER else next(iter(house.admin.values()))
    browser = house.visitor()
    for _ in range(ADDRESS_TRIES):
        assert code_of(await browser.ask("POST", door, {"key": WRONG})) == (401, code)
    for sent in (WRONG, key):
        refused = await browser.ask("POST", door, {"key": sent})
        assert code_of(refused) == (429, "too_many_sign_ins")
        assert refused.headers["retry-after"] == f"{ADDRESS_EVERY_S:.0f}"
    await house.visitor(address="198.51.100.9").sign_in(key, door)
    house.clock.advance(ADDRESS_EVERY_S)
    assert (await browser.sign_in(key, door)).status == 200


async def test_wrong_admin_keys_in_calls_are_slowed_too(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that was right before goes on working behind the same address; sessions do, too.

    The log tells it once, with the address and without the key.
    """
    owner = house.visitor(next(reversed(house.admin.values())))
    session = await house.operator()
    assert (await owner.ask("GET", "/admin/v1/sessions")).status == 200
    stranger = house.visitor(WRONG)
    caplog.clear()
    statuses = [
        (await stranger.ask("GET", "/admin/v1/sessions")).status for _ in range(ADDRESS_TRIES + 3)
    ]
    assert statuses == [401] * ADDRESS_TRIES + [429] * 3
    assert (await owner.ask("GET", "/admin/v1/sessions")).status == 200
    assert (await session.ask("GET", "/admin/v1/sessions")).status == 200
    assert [getattr(line, "address", "") for line in caplog.records] == [stranger.address]
    assert WRONG not in caplog.text


async def test_behind_a_trusted_proxy_the_callers_own_address_is_slowed(tmp_path: Path) -> None:
    """Not the proxy's, which all share; nor one that a caller wrote there."""
    config = '[server]\ntrusted_proxies = ["127.0.0.1/32"]\n'
    async with open_house(tmp_path / "data", config) as found:
        proxy = found.visitor(address="127.0.0.1")
        for number in range(ADDRESS_TRIES):
            guessed = {"x-forwarded-for": f"192.0.2.{number}, 203.0.113.7"}
            answer = await proxy.ask("POST", CUSTOMER, {"key": WRONG}, headers=guessed)
            assert answer.status == 401
        for address, status in (("203.0.113.7", 429), ("203.0.113.8", 200)):
            answer = await proxy.ask(
                "POST", CUSTOMER, {"key": found.key}, headers={"x-forwarded-for": address}
            )
            assert answer.status == status


# --- the audit ---


async def test_operators_comings_and_goings_are_in_the_audit(house: House) -> None:
    """Who, from where, in which session; a customer's are nobody's business there."""
    browser = await house.operator(address="198.51.100.9")
    await house.customer()
    session = (await browser.ask("GET", ADMIN)).json()["id"]
    await browser.ask("DELETE", ADMIN)
    acts = await house.app.db.read(lambda tx: admin_acts.page(tx, limit=2))
    assert [(act.act, act.subject, act.session_id) for act in acts] == [
        ("session.end", session, session),
        ("session.open", session, session),
    ]
    assert {(act.actor_name, act.address) for act in acts} == {("the owner", "198.51.100.9")}

"""Where tests take the secrets that they give a gateway, so that canaries can stand in for them.

Owns the one door between tests and the campaign of tests/secrecy/canaries.py. Without the campaign
everything here gives back what it was given and remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Planter(Protocol):
    """What the campaign does."""

    def secret(self, name: str) -> str: ...

    def environ(self) -> Mapping[str, str]: ...

    def config(self, text: str) -> str: ...

    def learn(self, name: str, value: str) -> None: ...

    def see(self, place: str, said: bytes) -> None: ...

    def answer(self, route: str, status: int, headers: Mapping[str, str], body: bytes) -> None: ...

    def books(self, url: str) -> None: ...


class _Campaign:
    planter: Planter | None = None


def begin(planter: Planter) -> None:
    """Let canaries be planted in this process from now on."""
    _Campaign.planter = planter


def secret(name: str, usual: str) -> str:
    """Return the secret to use under this name: a canary, or the usual word."""
    return usual if _Campaign.planter is None else _Campaign.planter.secret(name)


def environ() -> dict[str, str]:
    """Return the variables that a planted configuration names."""
    return {} if _Campaign.planter is None else dict(_Campaign.planter.environ())


def config(text: str) -> str:
    """Return a configuration that is logged at debug level and has every secret that it may."""
    return text if _Campaign.planter is None else _Campaign.planter.config(text)


def learn(name: str, value: str) -> str:
    """Note a secret that was made in this test, and return it."""
    if _Campaign.planter is not None:
        _Campaign.planter.learn(name, value)
    return value


def see(place: str, said: bytes) -> None:
    """Have what came out looked through when the test is over."""
    if _Campaign.planter is not None:
        _Campaign.planter.see(place, said)


def answer(route: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """The same for an answer over HTTP; `route` is method and path."""
    if _Campaign.planter is not None:
        _Campaign.planter.answer(route, status, headers, body)


def books(url: str) -> None:
    """The same for all rows of a Postgres that is about to go."""
    if _Campaign.planter is not None:
        _Campaign.planter.books(url)

"""What the operators' routes have in common: queries, bodies, refusals, and who acts.

Owns how these are read and refused. What is done is `administration`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from safelight import customers, ledger
from safelight.administration import Administration, Deeds, Looking
from safelight.api.admin.access import operator
from safelight.api.body import json_body
from safelight.api.exchange import Exchange
from safelight.api.problems import Headers
from safelight.api.wire import parse_fields
from safelight.errors import Conflict, InvalidValue, NotFound, UnknownParameter
from safelight.money import MICROS_MAX
from safelight.office_acting import NotCharged

NO_STORE: Headers = [(b"cache-control", b"no-store")]
LIMIT, LIMIT_MAX = 50, 200
PAGE = ("after", "limit")
SEARCH_MAX = 200
SECONDS_MAX = 253_402_300_799
"""The end of the year 9999, the last that a date can name."""
_BODY_MAX = 16_384
_FLAGS = {"true": True, "false": False}

Body = TypeVar("Body", bound=msgspec.Struct)
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Reason = Annotated[str, Meta(min_length=1, max_length=200, description="For the audit.")]
Amount = Annotated[int, Meta(ge=0, le=MICROS_MAX)]


class Nothing(msgspec.Struct, kw_only=True):
    """Nothing is to be said; a body is refused for every name in it."""


def house_of(exchange: Exchange) -> Administration:
    """Return the operators' side of this process.

    Raises:
        NotFound: it has none.
    """
    found = exchange.services.administration
    if found is None:
        raise NotFound("This gateway has no operators over HTTP.")
    return found


def looking(exchange: Exchange) -> Looking:
    """Return what operators may look at."""
    return house_of(exchange).looking


async def deeds(exchange: Exchange) -> Deeds:
    """Return what may be done in the name of who calls."""
    return house_of(exchange).acting_as(await operator(exchange))


# --- queries --------------------------------------------------------------------------------------


def query_of(exchange: Exchange, *names: str) -> Mapping[str, str]:
    """Return the query.

    Raises:
        UnknownParameter: it has a name that is not among `names`.
        InvalidValue: it cannot be read.
    """
    query = exchange.query()
    for name in query:
        if name not in names:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    return query


def limit_of(query: Mapping[str, str]) -> int:
    """Return how many entries are asked for, or raise InvalidValue."""
    number = number_of(query, "limit")
    if number is None:
        return LIMIT
    if not 1 <= number <= LIMIT_MAX:
        raise InvalidValue(f"'limit' is a number from 1 to {LIMIT_MAX}.", param="limit")
    return number


def number_of(query: Mapping[str, str], name: str) -> int | None:
    """Return a whole number of the query, None where it has none, or raise InvalidValue."""
    text = query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidValue(f"{name!r} is a whole number.", param=name)
    return int(text)


def flag_of(query: Mapping[str, str], name: str) -> bool | None:
    """Return true or false of the query, None where it says nothing, or raise InvalidValue."""
    text = query.get(name)
    if not text:
        return None
    if text not in _FLAGS:
        raise InvalidValue(f"{name!r} is true or false.", param=name)
    return _FLAGS[text]


def search_of(query: Mapping[str, str]) -> str:
    """Return what is searched for, or raise InvalidValue."""
    text = query.get("search", "")
    if len(text) > SEARCH_MAX:
        raise InvalidValue(f"'search' has {SEARCH_MAX} characters at most.", param="search")
    return text


# --- bodies ---------------------------------------------------------------------------------------


async def body_of(exchange: Exchange, shape: type[Body]) -> Body:
    """Return the body as `shape`; an absent one has no fields. A null that it allows is a value.

    Raises:
        InvalidRequest: it is no such body; says which field is wrong.
    """
    return parse_fields(await _fields(exchange), shape)


async def _fields(exchange: Exchange) -> dict[str, Any]:
    length = exchange.header("content-length")
    if length in (None, "0") and exchange.header("transfer-encoding") is None:
        return {}
    async with json_body(exchange, _BODY_MAX) as sent:
        return dict(sent.fields)


def plain(text: str, param: str) -> str:
    """Return words that can be read on a list and typed again, without blanks around them.

    Raises:
        InvalidValue: there are none, or they have unprintable characters.
    """
    words = text.strip()
    if not words or not words.isprintable():
        raise InvalidValue(f"{param!r} is empty or has unprintable characters.", param=param)
    return words


# --- refusals -------------------------------------------------------------------------------------


@contextmanager
def refusals(missing: NotFound) -> Iterator[None]:
    """Make answers of the reasons for which the office does not do a thing.

    Args:
        missing: the answer where the thing is not there.
    """
    try:
        yield
    except (KeyError, IndexError):
        raise  # lookup errors, too, but nobody's answer
    except LookupError:
        raise missing from None
    except customers.NameTaken as error:
        message = f"There is a customer called {str(error)!r} already."
        raise Conflict(message, code="name_taken", param="name") from None
    except ledger.WouldOverdraw:
        raise Conflict(
            "More than that is owed or held: less is available than this would take.",
            code="would_overdraw",
        ) from None
    except ledger.AlreadyResolved:
        raise Conflict("This charge was given back before.", code="already_refunded") from None
    except NotCharged as error:
        text = str(error)
        raise Conflict(f"{text[:1].upper()}{text[1:]}.", code="not_charged") from None

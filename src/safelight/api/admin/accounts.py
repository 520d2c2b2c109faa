"""/admin/v1/accounts, channels and sizes: what serves pictures, how it does, and its pauses.

Owns the routes and the shape of an account. Figures are `safelight.accounts`', what a pause means
the pool's.
"""

from __future__ import annotations

import msgspec

from safelight.administration.looking import AccountEntry
from safelight.api.admin import asking
from safelight.api.admin.customers import Why
from safelight.api.exchange import Exchange
from safelight.api.job_views import seconds
from safelight.api.meta import size_list
from safelight.errors import InvalidValue, NotFound

SINCE_S, SINCE_MAX_S = 86_400, 90 * 86_400


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """A group's images a minute: in use now, learnt or not, and as configured; null: none."""

    images_per_minute: float | None
    learnt: bool
    configured: float | None


class PauseView(msgspec.Struct, frozen=True, kw_only=True):
    """Why an account gets no new attempt, by whose word, and since when, unix seconds."""

    reason: str
    by: str
    at: int


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """An account; times in unix seconds, money in micro-dollars.

    `state` is the worst that a running process says, null where none says anything; `score` and
    `fail_share` are the pool's moving figures. The others count the attempts of the list's span.
    """

    object: str = "account"
    id: str
    name: str
    configured: bool
    upstream: str | None
    group: str | None
    channels: tuple[str, ...]
    state: str | None
    reason: str
    until: int | None
    in_flight: int
    score: float | None
    fail_share: float | None
    attempts: int
    success_share: float | None
    throttled_share: float | None
    p50_s: float | None
    p95_s: float | None
    delivered: int
    cost_per_image_micros: int | None
    cost_complete: bool
    limit: LimitView
    paused: PauseView | None


class AccountList(msgspec.Struct, frozen=True, kw_only=True):
    """Every account, those of the configuration first; `since_s` is the span of the figures."""

    object: str = "list"
    data: tuple[AccountView, ...]
    since_s: int
    last_id: str | None
    has_more: bool = False


class AdminChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's policy, as it is configured, and the accounts that serve it."""

    object: str = "channel"
    id: str
    kind: str
    sizes: str
    quality: tuple[str, ...]
    n_max: int
    price_micros: int | None
    batch_price_micros: int | None
    prices: dict[str, dict[str, int]]
    retries: bool
    max_attempts: int
    deadline_s: float
    link_ttl_s: int
    shutdown_date: str | None
    accounts: tuple[str, ...]


class AdminChannelList(msgspec.Struct, frozen=True, kw_only=True):
    """The channels, in the order of the configuration."""

    object: str = "list"
    data: tuple[AdminChannel, ...]
    last_id: str | None
    has_more: bool = False


async def accounts(exchange: Exchange) -> None:
    """Answer GET /admin/v1/accounts, with the figures of the last `since_s` seconds, a day's."""
    query = asking.query_of(exchange, "since_s")
    since_s = asking.number_of(query, "since_s")
    if since_s is None:
        since_s = SINCE_S
    if not 1 <= since_s <= SINCE_MAX_S:
        raise InvalidValue(f"'since_s' is from 1 to {SINCE_MAX_S} seconds.", param="since_s")
    found = await asking.looking(exchange).account_entries(since_s=since_s)
    data = tuple(_view(one) for one in found)
    listed = AccountList(data=data, since_s=since_s, last_id=data[-1].id if data else None)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def pause(exchange: Exchange) -> None:
    """Answer POST /admin/v1/accounts/{name}/pause: calls that are out end, no new one begins."""
    body = await asking.body_of(exchange, Why)
    name = await _name(exchange)
    watch = (await asking.deeds(exchange)).watch
    await watch.pause_account(name, asking.plain(body.reason, "reason"))
    await _show(exchange, name)


async def resume(exchange: Exchange) -> None:
    """Answer POST /admin/v1/accounts/{name}/resume."""
    await asking.body_of(exchange, asking.Nothing)
    name = await _name(exchange)
    await (await asking.deeds(exchange)).watch.resume_account(name)
    await _show(exchange, name)


async def channels(exchange: Exchange) -> None:
    """Answer GET /admin/v1/channels."""
    asking.query_of(exchange)
    services = exchange.services
    data = tuple(_channel(exchange, name) for name in services.channels.ids())
    listed = AdminChannelList(data=data, last_id=data[-1].id if data else None)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def sizes(exchange: Exchange) -> None:
    """Answer GET /admin/v1/sizes, as customers see them."""
    query = asking.query_of(exchange, "model")
    listed = size_list(exchange.services.channels, query.get("model"))
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def _name(exchange: Exchange) -> str:
    name = exchange.path_param("name")
    known = await asking.looking(exchange).account_names()
    if name not in known:
        raise NotFound(
            f"No account is called {name[:64]!r}; there are {', '.join(sorted(known))}.",
            param="name",
        )
    return name


async def _show(exchange: Exchange, name: str) -> None:
    found = await asking.looking(exchange).account_entries(since_s=SINCE_S)
    (entry,) = [one for one in found if one.name == name]
    await exchange.respond_json(_view(entry), headers=asking.NO_STORE)


def _channel(exchange: Exchange, name: str) -> AdminChannel:
    channel = exchange.services.channels.get(name, status=404)
    return AdminChannel(
        id=name,
        kind=channel.kind,
        sizes=channel.sizes,
        quality=channel.quality,
        n_max=channel.n_max,
        price_micros=channel.price_micros,
        batch_price_micros=channel.batch_price_micros,
        prices=channel.prices,
        retries=channel.retries,
        max_attempts=channel.max_attempts,
        deadline_s=channel.deadline_s,
        link_ttl_s=channel.link_ttl_s,
        shutdown_date=channel.shutdown_date,
        accounts=tuple(
            one.name for one in exchange.services.config.accounts if name in one.channels
        ),
    )


def _view(entry: AccountEntry) -> AccountView:
    account, standing, tally, pause = entry.account, entry.standing, entry.tally, entry.pause
    return AccountView(
        id=entry.name,
        name=entry.name,
        configured=account is not None,
        upstream=None if account is None else account.upstream,
        group=entry.group,
        channels=() if account is None else account.channels,
        state=None if standing is None else standing.state,
        reason="" if standing is None else standing.reason,
        until=None if standing is None else seconds(standing.until),
        in_flight=0 if standing is None else standing.in_flight,
        score=None if standing is None else standing.score,
        fail_share=None if standing is None else standing.fail_share,
        attempts=tally.attempts,
        success_share=tally.success_share,
        throttled_share=tally.throttled_share,
        p50_s=tally.seconds(0.5),
        p95_s=tally.seconds(0.95),
        delivered=tally.delivered,
        cost_per_image_micros=tally.cost_per_image_micros,
        cost_complete=tally.cost_complete,
        limit=_limit(entry),
        paused=None
        if pause is None
        else PauseView(reason=pause.reason, by=pause.paused_by, at=pause.paused_at // 1000),
    )


def _limit(entry: AccountEntry) -> LimitView:
    if entry.limit is not None:
        return LimitView(
            images_per_minute=entry.limit.images_per_minute,
            learnt=entry.limit.learnt,
            configured=entry.limit.configured,
        )
    stated = None if entry.account is None else entry.account.images_per_minute
    return LimitView(images_per_minute=stated, learnt=False, configured=stated)

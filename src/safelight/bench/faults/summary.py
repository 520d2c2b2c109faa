"""What the books add up to: counts, peaks against the limits, attempts per prompt. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from safelight.bench.faults.books import Sale, Seen
from safelight.bench.faults.limits import MINUTE_S, Limit
from safelight.bench.faults.script import Kind


def summarise(
    requests: Iterable[Seen],
    sales: Iterable[Sale],
    *,
    limit_of: Callable[[str], Limit | None],
    since_s: float,
    until_s: float,
    window_s: float = MINUTE_S,
) -> dict[str, Any]:
    """Return the summary of what arrived and was sold from `since_s` until before `until_s`.

    Args:
        requests: in order of arrival.
        sales: in any order.
        limit_of: the limit of a group.
        since_s: vendor seconds.
        until_s: vendor seconds.
        window_s: length of the sliding window for peaks, in vendor seconds.
    """
    arrived = [seen for seen in requests if since_s <= seen.at_s < until_s]
    sold = [sale for sale in sales if since_s <= sale.at_s < until_s]
    groups = {seen.group: None for seen in arrived}
    return {
        "since_s": since_s,
        "until_s": until_s,
        **_counts(arrived, sold),
        "by_kind": dict(sorted(Counter(map(_label, arrived)).items())),
        "by_key": _split(arrived, sold, "key"),
        "by_group": {
            group: {
                **counts,
                **_peaks([one for one in arrived if one.group == group], limit_of(group), window_s),
            }
            for group, counts in _split(arrived, sold, "group").items()
            if group in groups
        },
        "prompts": _prompts(arrived, sold),
    }


def _counts(arrived: list[Seen], sold: list[Sale]) -> dict[str, Any]:
    return {
        "requests": len(arrived),
        "throttled": sum(seen.kind == Kind.THROTTLED for seen in arrived),
        "images_asked": sum(seen.images for seen in arrived),
        "sales": len(sold),
        "sales_delivered": sum(sale.delivered for sale in sold),
    }


def _label(seen: Seen) -> str:
    return seen.kind if seen.status is None else f"{seen.kind}_{seen.status}"


def _split(arrived: list[Seen], sold: list[Sale], name: str) -> dict[str, dict[str, Any]]:
    parts: defaultdict[str, tuple[list[Seen], list[Sale]]] = defaultdict(lambda: ([], []))
    for seen in arrived:
        parts[getattr(seen, name)][0].append(seen)
    for sale in sold:
        parts[getattr(sale, name)][1].append(sale)
    return {part: _counts(*lists) for part, lists in sorted(parts.items())}


def _peaks(arrived: list[Seen], limit: Limit | None, window_s: float) -> dict[str, Any]:
    accepted = [seen for seen in arrived if seen.kind != Kind.THROTTLED]
    asked, asked_ratio = _peak(arrived, limit, window_s)
    passed, passed_ratio = _peak(accepted, limit, window_s)
    return {
        "limit": limit.images_at(arrived[-1].at_s) if limit is not None and arrived else None,
        "peak_images": asked,
        "peak_ratio": asked_ratio,
        "peak_accepted_images": passed,
        "peak_accepted_ratio": passed_ratio,
    }


def _peak(arrived: list[Seen], limit: Limit | None, window_s: float) -> tuple[int, float | None]:
    """Return the most images asked for within any window, and the worst share of the limit.

    A window that a change of the limit falls into is held against the higher limit.
    """
    window: deque[Seen] = deque()
    total, most, worst = 0, 0, 0.0
    limited = limit is not None and limit.images_per_minute is not None
    for seen in arrived:
        window.append(seen)
        total += seen.images
        while window[0].at_s <= seen.at_s - window_s:
            total -= window.popleft().images
        most = max(most, total)
        if limit is not None and limited:
            allowed = limit.most_images(seen.at_s - window_s, seen.at_s) or 0.0
            share = allowed * window_s / MINUTE_S
            worst = max(worst, total / share if share else float(total))
    return most, round(worst, 4) if limited else None


def _prompts(arrived: list[Seen], sold: list[Sale]) -> dict[str, Any]:
    asked = Counter(seen.prompt for seen in arrived)
    delivered = {sale.prompt for sale in sold if sale.delivered}
    return {
        "distinct": len(asked),
        "requests_per_prompt": round(len(arrived) / len(asked), 4) if asked else 0.0,
        "most_requests": max(asked.values(), default=0),
        "delivered": len(delivered),
    }

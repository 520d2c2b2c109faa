"""What is told of a run before it begins and after its end, for people and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from safelight.cli import output
from safelight.cli.table import Column
from safelight.client.runs import Plan, Preview, Result, Settings
from safelight.client.runs.manifest import figures_view
from safelight.client.runs.preparing import saved_by
from safelight.money import micros_to_dollars

LISTED_MAX = 20
"""Items that are listed one by one; the manifest has all."""
_ITEMS = (Column("picture"), Column("why", words=True))


# --- words -----------------------------------------------------------------------------------


def dollars(micros: int | None) -> str:
    """Return an amount as people write it: `$0.90`, with more digits only where they say more."""
    if micros is None:
        return "an unknown price"
    text = micros_to_dollars(micros)
    whole, _, fraction = text.partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def duration(seconds: float) -> str:
    """Return a time as people say it: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def count(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + " %"


# --- before ----------------------------------------------------------------------------------


def print_preview(
    told: Preview,
    plan: Plan,
    folder: Path,
    settings: Settings,
    *,
    as_json: bool = False,
    to_errors: bool = False,
) -> None:
    """Print the forecast; where it is the result, on standard output."""
    if as_json:
        output.print_json({"object": "run.forecast", **_forecast_view(told, plan, folder)})
        return
    console = output.err() if to_errors else output.out()
    _print_facts(console, _preview_facts(told, plan, folder, settings))


def question(told: Preview) -> str:
    """Return what is asked before anything is spent."""
    forecast = told.forecast
    if not forecast.pictures:
        return f"Collect {count(forecast.open, 'picture', 'pictures')} ordered before?"
    pictures = count(forecast.pictures, "picture", "pictures")
    return f"Order {pictures} for {dollars(forecast.cost_micros)}?"


def _print_facts(console: Console, facts: Iterator[tuple[str, str]]) -> None:
    rows = list(facts)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        console.print(f"  [dim]{name:<{width}}[/]  {escape(value)}", soft_wrap=True)


def _preview_facts(
    told: Preview, plan: Plan, folder: Path, settings: Settings
) -> Iterator[tuple[str, str]]:
    forecast, found = told.forecast, told.survey
    yield "plan", f"{plan.name}: {count(len(plan.items), 'picture', 'pictures')}, into {folder}/"
    if not found.first:
        yield "so far", _so_far(told)
    if not found.first and (found.new or found.dropped):
        yield "changed", _changed(found.new, found.dropped)
    for shape in forecast.shapes:
        plan_words = f" ({shape.size_plan})" if shape.size_plan else ""
        price = dollars(shape.price_micros)
        yield "to order", f"{shape.count} x {shape.model} {shape.size}{plan_words} at {price}"
    if not forecast.pictures and not forecast.open:
        yield "to order", "nothing"
        return
    saved = saved_by(told.prepared)
    if saved["pictures"]:
        yield "inputs", _saved(saved)
    yield "cost", _cost(told, settings)
    if forecast.seconds is not None:
        yield "time", _time(told)
        yield "limit", forecast.limit
    if forecast.available_micros is not None:
        yield "balance", _balance(told)
    if not forecast.serves:
        yield "warning", "no account can make such pictures at the moment"


def _so_far(told: Preview) -> str:
    forecast = told.forecast
    facts = [f"{forecast.done} accepted", f"{dollars(forecast.spent_micros)} spent"]
    if forecast.open:
        facts.append(f"{forecast.open} under way, to be collected")
    if told.survey.gone:
        facts.append(f"{len(told.survey.gone)} files gone, fetched again while they are kept")
    if forecast.review:
        facts.append(f"{forecast.review} for review (--rerolls orders them again)")
    return ", ".join(facts)


def _changed(new: int, dropped: int) -> str:
    facts = []
    if new:
        facts.append(f"{new} new")
    if dropped:
        facts.append(f"{dropped} no longer in the plan (their pictures stay)")
    return "the plan, since the last start: " + ", ".join(facts)


def _saved(saved: Any) -> str:
    before, after = saved["before_bytes"] / 1e6, saved["after_bytes"] / 1e6
    pictures = count(saved["pictures"], "picture", "pictures")
    return f"{pictures} made right for upload: {before:.1f} MB to {after:.1f} MB"


def _cost(told: Preview, settings: Settings) -> str:
    forecast = told.forecast
    words = dollars(forecast.cost_micros)
    if forecast.open_micros:
        words += f", and up to {dollars(forecast.open_micros)} for what is under way"
    if forecast.rerolls_micros:
        words += f"; re-rolls of rejected pictures come on top, up to {settings.rerolls} each"
    if settings.max_cost_micros is not None:
        words += f"; never above {dollars(settings.max_cost_micros)} in all"
    return words


def _time(told: Preview) -> str:
    forecast = told.forecast
    seconds = forecast.seconds or 0.0
    ends = time.strftime("%H:%M", time.localtime(time.time() + seconds))
    one = f"{forecast.generation_s:.1f} s".replace(".0 s", " s")
    known = "measured" if forecast.measured else "assumed: nobody has measured one yet"
    return f"about {duration(seconds)}, until {ends}; a picture takes {one} ({known})"


def _balance(told: Preview) -> str:
    forecast = told.forecast
    available = dollars(forecast.available_micros)
    if forecast.short_micros:
        return f"{available}: it covers {forecast.affordable} of {forecast.pictures} pictures"
    if forecast.cost_micros is None or forecast.available_micros is None:
        return available
    return f"{available}, then {dollars(forecast.available_micros - forecast.cost_micros)}"


def _forecast_view(told: Preview, plan: Plan, folder: Path) -> dict[str, Any]:
    forecast = told.forecast
    left = asdict(forecast)
    del left["prices"]
    return {
        "name": plan.name,
        "folder": str(folder),
        "items": len(plan.items),
        **left,
        "short_micros": forecast.short_micros,
        "new": told.survey.new,
        "dropped": told.survey.dropped,
        "gone": [item.id for item in told.survey.gone],
        "inputs": dict(saved_by(told.prepared)),
    }


# --- after -----------------------------------------------------------------------------------


def print_result(result: Result, again: str) -> None:
    """Print what came of a run: the counts, what failed and why, cost and the three numbers."""
    ended, done = result.ended, result.finished
    review = {one: found.reason for one, found in done.review.items()}
    names = {item.id: item.out for item in done.plan.items}
    for title, reasons in (("failed", ended.failed), ("for review", review), ("left", ended.left)):
        _print_items(title, {names[one]: reason for one, reason in reasons.items()})
    if ended.not_put:
        _print_items("not carried away", ended.not_put)
    output.print_facts(list(_result_facts(result)))
    if ended.failed or ended.left or ended.not_put:
        output.print_paragraph(f"Only what has no picture yet is done by: {again}")


def _print_items(title: str, reasons: dict[str, str]) -> None:
    if not reasons:
        return
    output.out().print(f"[bold]{title}[/]")
    output.print_table(_ITEMS, list(reasons.items())[:LISTED_MAX])
    if len(reasons) > LISTED_MAX:
        output.print_paragraph(f"and {len(reasons) - LISTED_MAX} more (manifest.csv has all)")


def _result_facts(result: Result) -> Iterator[tuple[str, str]]:
    ended, done = result.ended, result.finished
    facts = [f"{len(done.accepted)} of {len(done.plan.items)} accepted"]
    for number, words in (
        (len(done.review), "for review"),
        (len(ended.failed), "failed"),
        (len(ended.left), "left"),
    ):
        if number:
            facts.append(f"{number} {words}")
    yield "pictures", f"{', '.join(facts)}, in {done.folder}/"
    if done.review:
        yield "review", f"{done.folder / 'review'}/ has all rejected pictures"
    rerolls = f" ({count(ended.rerolls, 're-roll', 're-rolls')})" if ended.rerolls else ""
    yield "cost", dollars(done.cost_micros) + rerolls
    yield "figures", figures_words(result)
    if ended.put:
        yield "carried", count(ended.put, "picture", "pictures")
    for path in result.products:
        yield "made", str(path)
    if result.product_fault:
        yield "not made", result.product_fault
    yield "manifest", str(result.manifest)


def figures_words(result: Result) -> str:
    """Return the three numbers of a run in one line."""
    figures = result.ended.figures
    mean = figures.mean_generation_s
    taken = "-" if mean is None else f"{mean:.1f} s"
    return (
        f"mean generation {taken}, 5xx {_share(figures.server_error_rate)} of "
        f"{count(figures.tries, 'try', 'tries')}, downloads "
        f"{_share(figures.download_success_rate)}"
    )


def as_json(result: Result, again: str) -> dict[str, Any]:
    """Return what came of a run."""
    ended, done = result.ended, result.finished
    names = {item.id: item.out for item in done.plan.items}
    return {
        "object": "run",
        "name": done.plan.name,
        "folder": str(done.folder),
        "forecast": _forecast_view(result.preview, done.plan, done.folder),
        "accepted": len(done.accepted),
        "review": _listed({one: found.reason for one, found in done.review.items()}, names),
        "failed": _listed(ended.failed, names),
        "left": _listed(ended.left, names),
        "stopped": None if ended.stopped is None else ended.stopped.message,
        "cost_micros": done.cost_micros,
        "rerolls": ended.rerolls,
        "figures": figures_view(ended.figures),
        "carried": ended.put,
        "not_carried": ended.not_put,
        "products": [str(path) for path in result.products],
        "product_fault": result.product_fault or None,
        "manifest": str(result.manifest),
        "again": again,
    }


def _listed(reasons: dict[str, str], names: dict[str, str]) -> list[dict[str, str]]:
    return [{"id": one, "out": names[one], "reason": why} for one, why in reasons.items()]

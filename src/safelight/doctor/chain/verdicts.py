"""What was measured of a chain, in words: which hop, how many seconds, what to set where.

Owns the conclusions. A cut is laid at the door of whoever signed it by a page or a header; where
nobody did, its time is compared with well-known defaults, and nobody is named. The direct way tells
whether it is the chain at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from safelight.doctor import Check, failed, ok, unchecked, warning
from safelight.doctor.chain import hops
from safelight.doctor.chain.manners import MB, Certificate, Facts, Greeting, Limit, held_back_s
from safelight.doctor.chain.silence import Borne, Measured
from safelight.doctor.chain.wire import Answer, Ending
from safelight.doctor.machine import offset_check

GROUP = "proxies"
_MARGIN = 1.2
"""A timer should be so much longer than the longest deadline: 360 s for 300 s."""
_CERTIFICATE_S = 21 * 86_400
_HELD_S = 1.0
_HEAD_MIN = 3 * 1024


def greeting(found: Greeting, url: str) -> Check:
    """Judge the first look at the public address."""
    answer = found.answer
    match answer.ending:
        case Ending.TLS:
            return failed(
                GROUP, "address", f"{url}: {answer.detail}",
                "Renew or complete the certificate (send the whole chain), or mend the name.",
            )  # fmt: skip
        case Ending.UNREACHABLE:
            return failed(
                GROUP, "address", f"{url} cannot be reached: {answer.detail}",
                "Look at DNS, firewall and proxy; links in answers lead there.",
            )  # fmt: skip
        case Ending.COMPLETE if answer.from_gateway and answer.status == 200:
            way = ", ".join(hop.name for hop in hops.on_the_way(answer)) or "none that names itself"
            said = f"{url} answers over HTTP/{answer.version}; proxies: {way}"
            return ok(GROUP, "address", said, server=answer.headers.get("server"),
                      via=answer.headers.get("via"), http=answer.version)  # fmt: skip
        case Ending.COMPLETE if answer.from_gateway and answer.status == 401:
            return failed(
                GROUP, "address", f"{url}: the gateway knows no such key",
                "Give a key with --key; `safelight keys create NAME` makes one.",
            )  # fmt: skip
    name = _maker(answer)
    return failed(
        GROUP, "address",
        f"{url}: {name} answers {answer.status or _ended(answer)}, not the gateway",
        "Look whether the proxy's upstream is this gateway, and whether this gateway runs.",
    )  # fmt: skip


def clock(found: Greeting) -> Check | None:
    """Judge the difference between this clock and the one behind the header Date."""
    if found.ahead_s is None:
        return None
    return offset_check(GROUP, "the gateway or its proxy", found.ahead_s)


def silences(found: Measured, facts: Facts) -> Iterator[Check]:
    """Judge how long answers may be silent."""
    plain = found.of("plain")
    needed_s = facts.deadline_s
    if plain.cut_s is None:
        said = f"plain answers may be silent for {plain.passed_s:.0f} s"
        if plain.passed_s >= needed_s:
            yield ok(GROUP, "silence", said, **_facts(plain))
        else:
            yield unchecked(
                GROUP, "silence", f"{said}; longer was not asked for",
                f"Ask for --silence {needed_s:.0f}, the longest deadline_s of your channels.",
            )  # fmt: skip
    else:
        yield _cut(found, plain, plain.cut_s, facts)
    yield _sign_of_life(found.of("blanks"), "white space")
    yield _sign_of_life(found.of("events"), "event streams")


def _cut(found: Measured, plain: Borne, cut_s: float, facts: Facts) -> Check:
    answer = plain.cut.answer if plain.cut else Answer()
    seconds = _seconds(cut_s)
    who, hop = _who(answer, cut_s, found)
    helps = found.of("blanks").cut_s is None
    wanted = math.ceil(facts.deadline_s * _MARGIN)
    advice = f"There: {hop.silence.format(s=wanted)}." if hop else f"Raise its limit to {wanted} s."
    if helps:
        advice += (
            " Or in safelight: `safelight keys set ID --keep-alive`, or let clients stream or "
            "send Prefer: respond-async."
        )
    said = f"{who} cuts plain answers after {seconds} of silence ({_form(answer)})"
    if not plain.sure:
        said += f"; the cuts do not agree, {plain.passed_s:.0f} s passed"
    judge = failed if cut_s < facts.deadline_s else warning
    return judge(GROUP, "silence", said, advice, hop=hop.name if hop else None, **_facts(plain))


def _who(answer: Answer, cut_s: float, found: Measured) -> tuple[str, hops.Hop | None]:
    direct = found.direct
    if direct and direct.cut_s is not None and abs(direct.cut_s - cut_s) <= 0.1 * cut_s + 0.5:
        return "What is behind the direct address too (no proxy)", None
    made = hops.maker_of(answer)
    if made is not None:
        return made.name, made
    if answer.status is not None and not answer.from_gateway:
        return "A proxy that does not name itself", None
    known = hops.usual(cut_s)
    guess = f"its time is the default of {' and '.join(known)}" if known else ""
    guess = guess or hops.closes_silently(cut_s)
    return f"A hop that says nothing ({guess})", None


def _sign_of_life(borne: Borne, name: str) -> Check:
    label = "keep-alive" if borne.form == "blanks" else "streams"
    if borne.cut_s is None:
        return ok(GROUP, label, f"answers with {name} live on ({borne.passed_s:.0f} s seen)")
    answer = borne.cut.answer if borne.cut else Answer()
    return failed(
        GROUP, label, f"{name}: cut after {_seconds(borne.cut_s)} all the same ({_form(answer)})",
        "A hop holds bytes back or ends long answers however lively; use Prefer: respond-async.",
        **_facts(borne),
    )  # fmt: skip


def body(announced: Limit, sent: Limit, facts: Facts) -> Check:
    """Judge the size of request bodies."""
    worst = sent if sent.refused is not None else announced
    if worst.refused is None:
        return ok(
            GROUP, "body", f"bodies of {announced.passed // MB} MB are taken, as by safelight"
        )
    answer = worst.refusal or Answer()
    hop = hops.maker_of(answer)
    mb = math.ceil(facts.max_request_bytes / MB)
    setting = hop.body.format(mb=mb) if hop and hop.body else f"allow {mb} MB there"
    said = (
        f"{hop.name if hop else _maker(answer)} refuses a body of {_size(worst.refused)} "
        f"({_form(answer)}); {_size(worst.passed)} pass"
    )
    advice = f"{setting[0].upper()}{setting[1:]}: edits send pictures of up to 25 MB each."
    return failed(GROUP, "body", said, advice, passed_bytes=worst.passed,
                  refused_bytes=worst.refused, hop=hop.name if hop else None)  # fmt: skip


def head(found: Limit) -> Check:
    """Judge the length of request heads."""
    if found.refused is None:
        return ok(GROUP, "head", f"a header of {found.passed // 1024} KB is taken")
    answer = found.refusal or Answer()
    hop = hops.maker_of(answer)
    who = hop.name if hop else _maker(answer)
    said = f"{who} refuses a header of {found.refused // 1024} KB ({_form(answer)})"
    if found.passed >= _HEAD_MIN:
        return ok(GROUP, "head", f"{said}; {found.passed // 1024} KB pass, more than clients send")
    advice = hop.head if hop and hop.head else "raise its limit of request headers"
    return warning(GROUP, "head", said, f"{advice[0].upper()}{advice[1:]}.")


def stream(answer: Answer) -> Check:
    """Judge whether event streams come as they are sent."""
    held_s = held_back_s(answer)
    if held_s is None:
        return failed(
            GROUP, "buffering", f"an event stream of two seconds did not come ({_form(answer)})",
            "Look at the proxy's log.",
        )  # fmt: skip
    if held_s < _HELD_S:
        return ok(GROUP, "buffering", f"events come as they are sent ({held_s:.1f} s late)")
    on_way = hops.on_the_way(answer)
    settings = [f"{hop.name}: {hop.stream}" for hop in on_way if hop.stream]
    return failed(
        GROUP, "buffering", f"events are held back for {held_s:.1f} s by a hop",
        "; ".join(settings) or "Switch off buffering and compression of text/event-stream.",
        held_s=round(held_s, 2),
    )  # fmt: skip


def certificate(found: Certificate | None, now_s: float) -> Check:
    """Judge TLS."""
    if found is None:
        return warning(
            GROUP, "tls", "the address is plain http: keys and pictures travel in clear",
            "Let the proxy speak TLS, unless the network is trusted.",
        )  # fmt: skip
    if found.problem:
        return failed(GROUP, "tls", found.problem, "Renew the certificate; send the whole chain.")
    if found.ends_at is None:
        return unchecked(GROUP, "tls", f"{found.tls}; the certificate's end cannot be read")
    days = (found.ends_at - now_s) / 86_400
    said = f"{found.tls}, {found.http}, certificate for {days:.0f} more days"
    if found.ends_at - now_s < _CERTIFICATE_S:
        advice = "Renew it, and look why nothing renews it by itself."
        return warning(GROUP, "tls", said, advice, days=round(days))
    return ok(GROUP, "tls", said, days=round(days), http=found.http)


def _facts(borne: Borne) -> dict[str, object]:
    return {
        "passed_s": round(borne.passed_s, 2),
        "cut_s": None if borne.cut_s is None else round(borne.cut_s, 2),
        "sure": borne.sure,
        "requests": borne.requests,
    }


def _seconds(seconds: float) -> str:
    """Return a time as timers are set: whole seconds unless it is short."""
    return f"{seconds:.1f} s" if seconds < 5 else f"{round(seconds)} s"


def _size(size: int) -> str:
    return f"{size / MB:.3g} MB"


def _maker(answer: Answer) -> str:
    if answer.from_gateway:
        return "safelight"
    hop = hops.maker_of(answer)
    return hop.name if hop else "a hop that does not name itself"


def _form(answer: Answer) -> str:
    """Return how a request ended, in a few words."""
    if answer.ending is Ending.COMPLETE:
        return f"status {answer.status}"
    return _ended(answer)


def _ended(answer: Answer) -> str:
    begun = ", in the middle of the answer" if answer.head_s is not None else ""
    match answer.ending:
        case Ending.CLOSED:
            return f"connection closed (FIN){begun}"
        case Ending.RESET:
            return f"connection reset (RST){begun}"
        case Ending.SILENT:
            return f"dropped without a word{begun}"
        case _:
            return f"{answer.ending}{begun}"

"""/metrics of the real process beside the upstream's own log, its ports, and links from outside."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.process import GatewayProcess, accounts, free_port
from safelight.bench.faults.server import FaultUpstream
from safelight.metrics import status_class

VIP, DIRECT = "gpt-image-2-vip", "gpt-image-2"
AT_ONCE = 4
SEEN_WITHIN_S = 10.0


def scrape(url: str) -> Callable[[str, str], Counter[str]]:
    """Read /metrics once; return a look-up of a counter's sums by one of its labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = [one for f in text_string_to_metric_families(text) for one in f.samples]

    def by(name: str, label: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for sample in samples:
            if sample.name == name:
                found[sample.labels.get(label, "")] += int(sample.value)
        return found

    return by


def scrape_all(url: str, *, answers: int) -> Callable[[str, str], Counter[str]]:
    """Scrape until so many answers are counted: each is just after its last byte."""
    latest = time.monotonic() + SEEN_WITHIN_S
    while True:
        counts = scrape(url)
        if counts("safelight_answers_total", "route")["images"] == answers:
            return counts
        assert time.monotonic() < latest


def order(client: openai.OpenAI, model: str, prompt: str) -> int:
    """Order a picture; return the status."""
    try:
        client.images.generate(model=model, prompt=prompt, size="1024x1024")
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def test_hidden_and_visible_errors_are_those_of_the_upstreams_own_log(tmp_path: Path) -> None:
    """Accounts fail 30 % of their calls; one channel retries, the other shows."""
    script = {"keys": {"sk-bad": {"mix": {"500": 0.3}}}, "then": "ok"}
    with FaultUpstream.in_thread(script, seed=11) as upstream:
        # The pool soon avoids what fails, so the channel that retries has nothing better.
        shown, *hiding = accounts(upstream.base_url, 3).split("[[accounts]]")[1:]
        config = f'[[accounts]]{shown}channels = ["{DIRECT}"]\n' + "".join(
            f'[[accounts]]{one}channels = ["{VIP}"]\n' for one in hiding
        )
        config = config.replace("UPSTREAM_KEY", "BAD_KEY")
        gateway = GatewayProcess(tmp_path, config, environ={"BAD_KEY": "sk-bad"})
        key = gateway.key()
        with (
            gateway,
            openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client,
        ):
            wishes = [(m, f"{m} {n}") for n in range(40) for m in (VIP, DIRECT)]
            with ThreadPoolExecutor(AT_ONCE) as buyers:
                statuses = list(buyers.map(lambda wish: order(client, *wish), wishes))
            counts = scrape_all(gateway.url, answers=len(wishes))
            assert gateway.stop() == 0
    failed = [seen for seen in upstream.requests if seen.status == 500]
    sold = {seen.prompt for seen in upstream.requests if seen.kind == "ok"}
    hidden = sum(seen.prompt in sold for seen in failed)
    answers = Counter(status_class(status) for status in statuses)
    seen_errors = {kind: answers[kind] for kind in ("429", "5xx") if answers[kind]}
    assert answers["2xx"] == len(upstream.sales)
    assert hidden > 0
    assert answers["5xx"] > 0
    assert counts("safelight_hidden_errors_total", "channel") == {VIP: hidden}
    assert counts("safelight_visible_errors_total", "status") == seen_errors
    assert counts("safelight_visible_errors_total", "route") == {
        "images": sum(seen_errors.values())
    }
    scrapes = counts("safelight_answers_total", "route")["operations"]
    assert counts("safelight_answers_total", "status")["2xx"] == answers["2xx"] + scrapes
    outcomes = counts("safelight_attempts_total", "outcome")
    assert outcomes == {"ok": len(upstream.sales), "fast": len(failed)}
    of_accounts = counts("safelight_attempts_total", "account")
    shows = sum(seen.prompt.startswith(f"{DIRECT} ") for seen in upstream.requests)
    assert of_accounts["account-0"] == shows
    assert sum(of_accounts.values()) == len(upstream.requests)
    settled = sum(prompt.startswith(VIP) for prompt in sold) * 30_000
    prices = counts("safelight_settled_micros_total", "channel")
    assert prices[VIP] == settled


def test_each_worker_is_scraped_on_a_port_of_its_own(tmp_path: Path) -> None:
    port = free_port()
    config = f"[server]\nworkers = 2\n[metrics]\nport = {port}\n"
    gateway = GatewayProcess(tmp_path, config)
    with gateway:
        assert gateway.first_key is not None
        for n in range(8):
            # A client for each: the kernel deals connections out.
            with openai.OpenAI(
                base_url=gateway.base_url, api_key=gateway.first_key, max_retries=0
            ) as client:
                assert order(client, VIP, f"picture {n}") == 200
        ended = [
            scrape(f"http://127.0.0.1:{one}")("safelight_jobs_ended_total", "outcome")
            for one in (port, port + 1)
        ]
        assert sum(one["completed"] for one in ended) == 8
        with pytest.raises(urllib.error.HTTPError) as refused:
            scrape(gateway.url)
        assert refused.value.code == 409
        refused.value.close()
        assert gateway.stop() == 0


@pytest.mark.campaign
def test_the_prober_downloads_what_was_delivered(tmp_path: Path) -> None:
    """Over the public address, which is this process's own here; each process takes its turn."""
    port = free_port()
    gateway = GatewayProcess(
        tmp_path,
        f'[server]\npublic_url = "http://127.0.0.1:{port}"\n'
        "[prober]\nenabled = true\nevery_s = 5\n",
    )
    gateway.port = port
    gateway.url = f"http://127.0.0.1:{port}"
    with gateway:
        assert gateway.first_key is not None
        with openai.OpenAI(
            base_url=gateway.base_url, api_key=gateway.first_key, max_retries=0
        ) as client:
            assert order(client, VIP, "a lamp") == 200
        until = time.monotonic() + 20
        causes: Counter[str] = Counter()
        while not causes and time.monotonic() < until:
            causes = scrape(gateway.url)("safelight_probe_downloads_total", "cause")
        assert causes == {"ok": 1}
        downloads = scrape(gateway.url)("safelight_link_downloads_total", "outcome")
        assert downloads == {"ok": 1}
        assert gateway.stop() == 0

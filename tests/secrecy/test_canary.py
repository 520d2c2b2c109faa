"""Secrets planted in a real process, at debug level, through faults and crashes: none comes out.

What is looked through: standard output and error, error bodies, metrics, exported traces, alerts,
the crash dump that faulthandler writes, and every file of the data folder and of a backup but
`secrets.json`. canaries.py looks so at all that tests start (`make canary`).
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.script import Behaviour, Kind
from safelight.bench.faults.server import FaultUpstream
from secrecy.forms import forms
from secrecy.listening import Collector

UPSTREAM = "canary/upstream+key-4711"
"""No pattern knows it: only its value can be found."""
PLANTED = {
    "UPSTREAM_KEY": UPSTREAM,
    "METRICS_TOKEN": "canary-metrics-token-4712",
    "ALERTS_SECRET": "whsec_" + base64.b64encode(b"canary-alerts-secret-4713-xxxx").decode(),
    "ACME_S3": "canary-id:canary-bucket-secret-4714",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-secret-4715",
    "PYTHONFAULTHANDLER": "1",
}
CONFIG = """
[logs]
level = "debug"
[metrics]
access = "token"
token_env = "METRICS_TOKEN"
[alerts]
webhook_url = "COLLECTOR/alert"
webhook_secret_env = "ALERTS_SECRET"
every_s = 1.0
least = 1
[traces]
endpoint = "COLLECTOR/trace"
[channels.gpt-image-2-vip]
max_attempts = 2
"""


def _echo(status: int) -> Behaviour:
    said = f"Incorrect key {UPSTREAM} in https://me:{quote(UPSTREAM, safe='')}@vendor.example/x"
    return Behaviour(
        kind=Kind.STATUS,
        status=status,
        headers={"x-request-id": UPSTREAM, "www-authenticate": f'Bearer realm="{UPSTREAM}"'},
        body={"error": {"message": said, "code": UPSTREAM, "type": UPSTREAM, "param": UPSTREAM}},
    )


def _ask(gateway: GatewayProcess, path: str, key: str, body: object = None) -> bytes:
    request = urllib.request.Request(
        f"{gateway.url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            head, text = str(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        head, text = str(error.headers), error.read()
    return head.encode() + bytes(text)


def _hits(where: dict[str, bytes], secrets: dict[str, str]) -> list[str]:
    return [
        f"{name} in {place}"
        for place, text in where.items()
        for name, secret in secrets.items()
        if any(form in text for form in forms(secret.encode()))
    ]


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("secrets")
    }


def test_no_planted_secret_comes_out_of_a_process_that_fails_and_dies(tmp_path: Path) -> None:
    sent: list[tuple[str, bytes]] = []
    with (
        FaultUpstream.in_thread() as upstream,
        closing(Collector(lambda path, said: sent.append((path, said)))) as collector,
    ):
        config = accounts(upstream.base_url, 6, first_byte_timeout_s=1.0)
        config += CONFIG.replace("COLLECTOR", collector.url)
        gateway = GatewayProcess(tmp_path, config, environ=PLANTED)
        key = gateway.key()
        said: list[bytes] = []
        order = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
        with gateway:
            for act in (_echo(400), _echo(401), _echo(500), Behaviour(kind=Kind.REDIRECT)):
                upstream.play(act, act)
                said.append(_ask(gateway, "/v1/images/generations", key, order))
            made = _ask(gateway, "/v1/images/generations", key, order)
            assert b'"b64_json"' in made
            registered = _ask(gateway, "/v1/webhooks/secret", key)
            wrong = key[:-7] + ("x" if key[-7] != "x" else "y") + key[-6:]
            said.append(_ask(gateway, "/v1/models", wrong))
            said.append(_ask(gateway, f"/v1/nowhere?key={UPSTREAM}", key))
            metrics = _ask(gateway, "/metrics", PLANTED["METRICS_TOKEN"])
            assert b"safelight_" in metrics
            gateway.command("backup", str(tmp_path / "backup"))
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGABRT)  # faulthandler writes every thread's stack
            assert gateway.died() == -signal.SIGABRT
        log = gateway.log.read_bytes()
        with gateway:  # what the dead process left is taken up
            upstream.play(_echo(400))
            said.append(_ask(gateway, "/v1/images/generations", key, order))
            assert gateway.stop() == 0
    traces = b"".join(said for path, said in sent if path == "trace")
    assert b"safelight.outcome" in traces
    assert b"safelight.code" in traces
    assert b"Fatal Python error: Aborted" in log
    assert b"upstream error" in log
    kept = json.loads((gateway.data / "secrets.json").read_text())
    secrets = {
        **{name: value for name, value in PLANTED.items() if name != "PYTHONFAULTHANDLER"},
        "bucket secret": "canary-bucket-secret-4714",
        "customer's key": key,
        "secret of a key": key[16:48],
        **{f"pepper {name}": value for name, value in kept["pepper"]["keys"].items()},
        **{f"link key {name}": value for name, value in kept["links"]["keys"].items()},
    }
    webhook = registered[registered.rfind(b"whsec_") :].partition(b'"')[0].decode()
    assert len(webhook) > 20
    secrets["webhook secret"] = webhook
    where = {
        "log": log,
        "log of the next start": gateway.log.read_bytes(),
        "answers": b"".join(said),
        "metrics": metrics,
        **{f"{path} {number}": said for number, (path, said) in enumerate(sent)},
        **_files(gateway.data),
        **{f"backup/{name}": text for name, text in _files(tmp_path / "backup").items()},
    }
    assert len(where) > 6
    assert _hits(where, secrets) == []


def test_the_canary_would_be_heard() -> None:
    """The look finds each form: a test that can find nothing proves nothing."""
    done = subprocess.run(
        [sys.executable, "-c", f"raise ValueError({UPSTREAM!r})"],
        capture_output=True,
        check=False,
    )
    assert _hits({"stderr": done.stderr}, {"key": UPSTREAM}) == ["key in stderr"]
    for form in forms(UPSTREAM.encode()):
        assert _hits({"x": b"<" + form + b">"}, {"key": UPSTREAM})

"""`safelight doctor` as it is typed, behind real proxies whose timers the test has set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.process import GatewayProcess, free_port

TIMEOUT_S = 20
"""What both proxies allow a server to be silent."""
NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{behind};
      proxy_http_version 1.1;
      proxy_read_timeout {seconds}s;
    }}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server {seconds}s
listen front
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{behind}
"""


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed on this machine")
    return found


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Run a proxy until it listens, and end it after."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until = time.monotonic() + 10
        while subprocess.run(
            [
                sys.executable,
                "-c",
                f"import socket; socket.create_connection(('127.0.0.1', {port}))",
            ],
            capture_output=True,
            check=False,
        ).returncode:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def nginx(folder: Path, behind: int, seconds: int = TIMEOUT_S) -> Iterator[str]:
    """Run nginx with its defaults, but for that one timer."""
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, behind=behind, seconds=seconds))
    command = [program("nginx"), "-p", str(folder), "-c", str(config), "-g", "daemon off;"]
    with running(command, port, folder / "log") as url:
        yield url


@contextmanager
def haproxy(folder: Path, behind: int, seconds: int) -> Iterator[str]:
    folder.mkdir()
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, behind=behind, seconds=seconds))
    with running([program("haproxy"), "-db", "-f", str(config)], port, folder / "log") as url:
        yield url


def ask_doctor(url: str, direct: str, key: str) -> subprocess.Popen[str]:
    options = ["--through", "--url", url, "--direct", direct, "--silence", "60", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "safelight", "doctor", *options],
        env={**os.environ, "SAFELIGHT_API_KEY": key},
        stdout=subprocess.PIPE,
        text=True,
    )


def read(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    return {check["name"]: check for check in json.loads(out)["checks"]}


@pytest.mark.campaign
def test_a_served_folder_is_looked_at_beside_its_server(tmp_path: Path) -> None:
    """All is well, nothing is written to the books, and the server goes on."""
    with GatewayProcess(tmp_path / "gateway") as gateway:
        before = gateway.command("verify", "--json")
        found = json.loads(gateway.command("doctor", "--json"))
        assert found["state"] in ("ok", "warning")
        servers = next(check for check in found["checks"] if check["name"] == "servers")
        assert servers["facts"]["processes"] == 1
        after = gateway.command("verify", "--json")
        assert {**json.loads(after), "took_s": 0} == {**json.loads(before), "took_s": 0}
        assert gateway.stop() == 0


@pytest.mark.campaign
def test_real_proxies_are_named_with_the_seconds_of_their_timers(tmp_path: Path) -> None:
    """nginx with 20 s, HAProxy with 20 s, and an nginx with 20 s behind a patient HAProxy."""
    with ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(tmp_path / "gateway"))
        keys = [gateway.key(name) for name in ("one", "two", "three")]
        inner = stack.enter_context(nginx(tmp_path / "inner", gateway.port))
        ways = [
            stack.enter_context(nginx(tmp_path / "nginx", gateway.port)),
            stack.enter_context(haproxy(tmp_path / "haproxy", gateway.port, TIMEOUT_S)),
            stack.enter_context(haproxy(tmp_path / "outer", int(inner.rsplit(":", 1)[1]), 300)),
        ]
        began = time.monotonic()
        asked = [ask_doctor(way, gateway.url, key) for way, key in zip(ways, keys, strict=True)]
        found = [read(process) for process in asked]
        took_s = time.monotonic() - began
    print(f"\n{took_s:.1f} s for three chains")
    for checks, hop in zip(found, ("nginx", "HAProxy", "nginx"), strict=True):
        silence = checks["silence"]
        print(silence["found"], "|", silence["advice"])
        assert silence["facts"]["hop"] == hop
        assert silence["found"].startswith(f"{hop} cuts plain answers after {TIMEOUT_S} s")
        assert silence["facts"]["cut_s"] == pytest.approx(TIMEOUT_S, abs=0.7)
        assert "360" in silence["advice"]
        assert {checks[name]["state"] for name in ("keep-alive", "streams", "buffering")} == {"ok"}
    for checks in (found[0], found[2]):
        assert checks["body"]["facts"]["hop"] == "nginx"
        assert checks["body"]["facts"]["passed_bytes"] <= 1024**2
    assert found[1]["body"]["state"] == "ok"
    assert took_s < 35

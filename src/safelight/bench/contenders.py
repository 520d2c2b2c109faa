"""The contenders: how each is configured over the mock upstream, and how it is started.

safelight is started as its operator would (`safelight serve` with a file, and a key made by
`safelight keys`), the others as their documentation advises for one worker, with nothing that calls
out. The only file that writes their configurations. A contender that is not installed is no error.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.bench.errors import BenchError
from safelight.bench.litellm import LITELLM_QUIET
from safelight.bench.orders import CHANNEL
from safelight.bench.processes import (
    PYTHON,
    Cores,
    Running,
    environ,
    free_port,
    get_json,
    output,
    started,
)
from safelight.bench.result import OURS
from safelight.bench.workloads import Workload

GATEWAY = OURS
RELAY, NGINX, LITELLM, PORTKEY = "relay", "nginx", "litellm", "portkey"
DIRECT, NAIVE = "direct", "naive"
CONTENDERS = (GATEWAY, NGINX, RELAY, NAIVE, PORTKEY, LITELLM)
"""All names, in the order of their turns; the one that may still be busy afterwards is last."""
PRICE_MICROS = 30_000

_CREDIT = "1000000.00"
_PAGE = 1000
_KEY_VARIABLE = "BENCH_UPSTREAM_KEY"
_UPSTREAM_KEY = "sk-bench"
_MAX_IN_FLIGHT = 20_000
_ALIVE = "/health/liveliness"
"""Asked until there is an answer, be it 404."""

# No watermark: the bench itself looks at the free space before it starts.
_SAFELIGHT = """
[server]
max_in_flight = {most}

[storage]
min_free_bytes = 0

[channels.{channel}]
price_micros = {price}

[[accounts]]
name = "mock"
upstream = "openai"
base_url = "http://127.0.0.1:{port}/gateway/v1"
api_key_env = "{variable}"
"""

_NGINX = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    client_body_buffer_size 256k;
    keepalive_requests 1000000;
    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 300s;
            proxy_request_buffering off;
            proxy_buffer_size 256k;
            proxy_buffers 4 256k;
            proxy_busy_buffers_size 512k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""
_PORTKEY_PROGRAM = Path("node_modules", "@portkey-ai", "gateway", "build", "start-server.js")


@dataclass(frozen=True, slots=True)
class Places:
    """Where peers are installed: LiteLLM's program, the folder that npm installed Portkey into."""

    litellm: Path | None = None
    portkey: Path | None = None

    def missing(self, name: str) -> str:
        """Return in a few words what a contender lacks here; empty: nothing."""
        if name == NGINX and shutil.which("nginx") is None:
            return "nginx is not installed"
        if name == LITELLM and (self.litellm is None or not self.litellm.is_file()):
            return "LiteLLM is not installed; make bench installs it, --litellm names its program"
        if name == PORTKEY:
            if self.portkey is None or not (self.portkey / _PORTKEY_PROGRAM).is_file():
                return "Portkey is not installed; make bench installs it, --portkey names its place"
            if shutil.which("node") is None:
                return "Portkey needs node, which is not installed"
        return ""


@dataclass(frozen=True, slots=True)
class Contender:
    """A running contender, and the headers of orders to it."""

    running: Running
    headers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self.running.name


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a workload needs, running; `key` is a customer's of the gateway.

    `absent` says why a contender is not among them.
    """

    upstream: Running
    contenders: dict[str, Contender]
    absent: dict[str, str]
    key: str
    data: Path

    async def state(self) -> dict[str, Any]:
        """Return what the mock upstream has sold by first part of the path, and who waits."""
        return dict(await get_json(self.upstream.port, "/state"))

    async def play(self, delay_s: float = 0.0, together: int = 1) -> None:
        """Tell the mock upstream when to answer."""
        path = f"/play?delay_s={delay_s:g}&together={together}"
        await get_json(self.upstream.port, path)

    async def statement(self) -> list[dict[str, Any]]:
        """Return all lines of the customer's statement."""
        lines: list[dict[str, Any]] = []
        port = self.contenders[GATEWAY].running.port
        path = f"/v1/billing/statement?limit={_PAGE}"
        after = ""
        while True:
            page = await get_json(port, path + after, key=self.key)
            lines += page["data"]
            if not page["has_more"]:
                return lines
            after = f"&after={page['last_id']}"

    def stored_bytes(self) -> int:
        """Return the bytes of all blobs."""
        return sum(file.stat().st_size for file in self.data.glob("blobs/*/*/*"))


@asynccontextmanager
async def staged(
    workload: Workload,
    names: tuple[str, ...],
    folder: Path,
    places: Places,
    cores: Cores,
    *,
    workers: int = 1,
) -> AsyncIterator[Stage]:
    """Start mock and contenders for one workload, with files in `folder`; end them afterwards.

    The gateway is a server of so many processes (`workers`).

    Raises:
        BenchError: the mock did not start.
    """
    async with AsyncExitStack() as ends:
        upstream = await ends.enter_async_context(
            started(
                "upstream",
                (*PYTHON, "safelight.bench.mock", workload.weight.name),
                folder,
                cores=cores.rest,
            )
        )
        data = folder / "data"
        key = await _make_key(data, folder) if GATEWAY in names else ""
        stage = Stage(upstream, {}, {}, key, data)
        for name in names:
            if name == NAIVE:
                continue
            launch = _launch(name, upstream.port, folder, places, workers)
            try:
                running = await ends.enter_async_context(launch.start(name, folder, cores))
            except BenchError as error:
                stage.absent[name] = str(error)
                continue
            mine = (f"authorization: Bearer {key}",) if name == GATEWAY else launch.headers
            stage.contenders[name] = Contender(running, mine)
        yield stage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launch:
    """How a contender is run; `port` is None where it tells its port itself."""

    command: tuple[str, ...]
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = (f"authorization: Bearer {_UPSTREAM_KEY}",)

    def start(self, name: str, folder: Path, cores: Cores) -> AbstractAsyncContextManager[Running]:
        """Return the running process, to be entered."""
        ready = None if self.port is None else (self.port, _ALIVE)
        env = environ(self.env)
        return started(name, self.command, folder, cores=cores.contender, env=env, ready=ready)


def _launch(name: str, upstream: int, folder: Path, places: Places, workers: int) -> _Launch:
    """Write a contender's configuration and return how it is run."""
    if name == RELAY:
        return _Launch(command=(*PYTHON, "safelight.bench.relay", str(upstream)))
    if name == GATEWAY:
        config = folder / "safelight.toml"
        config.write_text(safelight_toml(upstream))
        place = ["--config", str(config), "--data", str(folder / "data"), "--port", "0"]
        if workers > 1:
            place += ["--workers", str(workers)]
        return _Launch(
            command=(*PYTHON, "safelight", "serve", "--json", "--host", "127.0.0.1", *place),
            env={_KEY_VARIABLE: _UPSTREAM_KEY},
        )
    port = free_port()
    if name == NGINX:
        config = folder / "nginx.conf"
        config.write_text(nginx_conf(upstream, port, folder))
        command = (str(shutil.which("nginx")), "-c", str(config), "-e", "stderr")
        return _Launch(command=command, port=port)
    if name == LITELLM:
        return _launch_litellm(upstream, port, folder, places)
    program = str((places.portkey or Path()).absolute() / _PORTKEY_PROGRAM)
    return _Launch(
        command=(str(shutil.which("node")), program, "--headless", f"--port={port}"),
        port=port,
        env={"NODE_ENV": "production"},
        headers=(
            f"authorization: Bearer {_UPSTREAM_KEY}",
            "x-portkey-provider: openai",
            f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1",
        ),
    )


def _launch_litellm(upstream: int, port: int, folder: Path, places: Places) -> _Launch:
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(litellm_config(upstream), indent=1))  # JSON is YAML
    program = str(places.litellm.absolute()) if places.litellm else ""
    place = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    return _Launch(
        command=(program, *place, "--num_workers", "1", "--telemetry", "False"),
        port=port,
        env=LITELLM_QUIET,
    )


def safelight_toml(upstream: int) -> str:
    """Return the operator's file: one account, the mock, with room for a crowd."""
    return _SAFELIGHT.format(
        most=_MAX_IN_FLIGHT,
        channel=CHANNEL,
        price=PRICE_MICROS,
        port=upstream,
        variable=_KEY_VARIABLE,
    )


def nginx_conf(upstream: int, port: int, folder: Path) -> str:
    """Return the configuration of a plain relay with one worker and big buffers."""
    # Started by root it would give its worker to a user who may not enter our folder.
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    return _NGINX.format(
        user=user, files=_MAX_IN_FLIGHT, folder=folder, upstream=upstream, port=port
    )


def litellm_config(upstream: int) -> dict[str, Any]:
    """Return the proxy's configuration: one deployment, the mock, and no retries to pay for."""
    deployment = {
        "model_name": CHANNEL,
        "litellm_params": {
            "model": "openai/gpt-image-2",
            "api_base": f"http://127.0.0.1:{upstream}/v1",
            "api_key": _UPSTREAM_KEY,
        },
        "model_info": {"id": "mock", "mode": "image_generation"},
    }
    return {
        "model_list": [deployment],
        "router_settings": {"num_retries": 0, "timeout": 300},
        "litellm_settings": {"telemetry": False, "request_timeout": 300, "drop_params": True},
        "general_settings": {"master_key": _UPSTREAM_KEY},
    }


async def _make_key(data: Path, folder: Path) -> str:
    command = ("keys", "create", "bench", "--credit", _CREDIT, "--data", str(data))
    return await output((*PYTHON, "safelight", *command), folder)


async def versions(places: Places, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the peers that are installed, as they tell them."""
    found = {}
    present = [name for name in names if not places.missing(name)]
    if LITELLM in present and places.litellm is not None:
        python = str(places.litellm.absolute().with_name("python"))
        asked = "import importlib.metadata; print(importlib.metadata.version('litellm'))"
        found[LITELLM] = await output((python, "-c", asked), Path.cwd())
    if PORTKEY in present and places.portkey is not None:
        package = places.portkey / _PORTKEY_PROGRAM.parent.parent / "package.json"
        found[PORTKEY] = str(json.loads(package.read_text())["version"])
    if NGINX in present:
        said = await output(("sh", "-c", "nginx -v 2>&1"), Path.cwd())
        found[NGINX] = said.rpartition("/")[2]
    return found

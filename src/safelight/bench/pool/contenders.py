"""The contenders: how each is configured for a scenario, and how it is started.

safelight is started as its operator would (`safelight serve` with a file and keys made by
`safelight keys`); the LiteLLM proxy as its documentation advises for a router over many deployments
(simple-shuffle, a retry policy by error, cooldowns, `rpm` for each deployment), with nothing that
calls out. The only file that writes their configurations.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.bench.errors import BenchError
from safelight.bench.litellm import LITELLM_QUIET
from safelight.bench.pool.processes import Child, Time, ask, child, free_ports
from safelight.bench.pool.scenarios import Scenario

SAFELIGHT, LITELLM = "safelight", "litellm"
CHANNEL = "gpt-image-2-vip"
"""What clients ask for, of both contenders."""

_CREDIT = "1000000.00"
_CREDIT_MICROS = 1_000_000_000_000
_PRICE_MICROS = 30_000
_CONNECT_S = 60.0
"""For a connection to the upstream: the wire is not scaled, so the default would be a moment."""
_MASTER_KEY = "sk-bench"


@dataclass(frozen=True, slots=True)
class Contender:
    """A running contender: where it listens, whose keys it takes and its processes."""

    name: str
    ports: tuple[int, ...]
    keys: Mapping[str, str]
    children: tuple[Child, ...]

    @property
    def bases(self) -> tuple[str, ...]:
        """The base URLs for clients."""
        return tuple(f"http://127.0.0.1:{port}/v1" for port in self.ports)

    async def charged(self) -> int | None:
        """Return how many pictures all customers have paid for; None: it keeps no such books."""
        if self.name != SAFELIGHT:
            return None
        posted = 0
        for key in self.keys.values():
            posted += await asyncio.to_thread(_posted, self.ports[0], key)
        return round((_CREDIT_MICROS * len(self.keys) - posted) / _PRICE_MICROS)


@asynccontextmanager
async def safelight(
    scenario: Scenario, upstream: int, time: Time, folder: Path
) -> AsyncIterator[Contender]:
    """Run safelight with its data in `folder`, over the upstream at that port.

    Raises:
        BenchError: it did not start.
    """
    config, data = folder / "safelight.toml", folder / "data"
    config.write_text(safelight_toml(scenario, upstream))
    variables = {_variable(key): key for key in scenario.keys}
    keys = {name: await _make_key(name, data, folder) for name in scenario.customers}
    ports = free_ports(scenario.processes)
    children = []
    async with AsyncExitStack() as ends:
        for number, port in enumerate(ports):
            lag = folder / f"safelight-{number}.lag"
            place = ("--config", str(config), "--data", str(data), "--port", str(port))
            command = (*time.command(lag), "-m", "safelight", "serve", "--json", *place)
            running = await ends.enter_async_context(
                child(f"safelight-{number}", command, folder, env=_clean(variables), lag=lag)
            )
            await running.line()
            children.append(running)
        yield Contender(SAFELIGHT, tuple(ports), keys, tuple(children))


def safelight_toml(scenario: Scenario, upstream: int) -> str:
    """Return the operator's file for a scenario."""
    # No watermark: the bench is no place for it. The channel is as it ships.
    lines = [
        "[storage]",
        "min_free_bytes = 0",
        "",
        "[pool]",
        f"learn_above_configured = {str(scenario.learn).lower()}",
        "",
        f"[channels.{CHANNEL}]",
        f"price_micros = {_PRICE_MICROS}",
    ]
    for group in scenario.groups:
        for key in group.keys:
            lines += [
                "",
                "[[accounts]]",
                f'name = "{key}"',
                'upstream = "openai"',
                f'base_url = "http://127.0.0.1:{upstream}/v1"',
                f'api_key_env = "{_variable(key)}"',
                f'group = "{group.name}"',
                f"connect_timeout_s = {_CONNECT_S:g}",
            ]
            if group.configured is not None:
                lines.append(f"images_per_minute = {group.configured:g}")
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def litellm(
    scenario: Scenario, upstream: int, time: Time, folder: Path, *, program: Path
) -> AsyncIterator[Contender]:
    """Run LiteLLM proxies, `program` being the `litellm` of their own environment.

    Raises:
        BenchError: they did not start.
    """
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(litellm_config(scenario, upstream), indent=1))  # JSON is YAML
    ports = free_ports(scenario.processes)
    python = str(program.absolute().with_name("python"))
    children = []
    async with AsyncExitStack() as ends:
        for number, port in enumerate(ports):
            lag = folder / f"litellm-{number}.lag"
            place = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
            command = (*time.command(lag, python), str(program.absolute()), *place)
            running = await ends.enter_async_context(
                child(
                    f"litellm-{number}",
                    (*command, "--telemetry", "False"),
                    folder,
                    speaks=False,
                    env=_clean(LITELLM_QUIET),
                    lag=lag,
                )
            )
            children.append(running)
        for running, port in zip(children, ports, strict=True):
            await running.answers(port, "/health/liveliness")
        # Without a database there is one key, the master's: all customers are the same to it.
        keys = dict.fromkeys(scenario.customers, _MASTER_KEY)
        yield Contender(LITELLM, tuple(ports), keys, tuple(children))


def litellm_config(scenario: Scenario, upstream: int) -> dict[str, Any]:
    """Return the proxy's configuration for a scenario.

    `rpm` belongs to a deployment there, and a group's limit is shared by its keys, so each key has
    its part of it. Seven retries are far more than its default; the rest is as its docs advise.
    """
    deployments = []
    for group in scenario.groups:
        for key in group.keys:
            parameters: dict[str, Any] = {
                "model": "openai/gpt-image-2",
                "api_base": f"http://127.0.0.1:{upstream}/v1",
                "api_key": key,
            }
            if group.configured is not None:
                parameters["rpm"] = max(1, round(group.configured / len(group.keys)))
            deployments.append(
                {
                    "model_name": CHANNEL,
                    "litellm_params": parameters,
                    "model_info": {"id": key, "mode": "image_generation"},
                }
            )
    return {
        "model_list": deployments,
        "router_settings": {
            "routing_strategy": "simple-shuffle",
            "num_retries": 7,
            "retry_policy": {
                "BadRequestErrorRetries": 0,
                "ContentPolicyViolationErrorRetries": 0,
                "AuthenticationErrorRetries": 7,
                "TimeoutErrorRetries": 7,
                "RateLimitErrorRetries": 7,
                "InternalServerErrorRetries": 7,
            },
            "allowed_fails": 3,
            "cooldown_time": 30,
            "timeout": 120,
            "enable_pre_call_checks": True,
        },
        "litellm_settings": {"telemetry": False, "request_timeout": 300, "drop_params": False},
        "general_settings": {"master_key": _MASTER_KEY},
    }


def _variable(key: str) -> str:
    return "BENCH_" + key.upper().replace("-", "_")


def _clean(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would lead a contender elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAFELIGHT_", "OPENAI_", "LITELLM_", "REDIS_"))
        and not name.lower().endswith("_proxy")
        and name != "DATABASE_URL"
    }
    return {**kept, **extra}


async def _make_key(name: str, data: Path, folder: Path) -> str:
    command = ("-m", "safelight", "keys", "create", name, "--credit", _CREDIT, "--data", str(data))
    async with child("keys", (sys.executable, *command), folder) as making:
        return (await making.line()).decode().strip()


def _posted(port: int, key: str) -> int:
    status, body = ask(port, "/v1/billing/balance", key=key)
    if status != 200:
        raise BenchError(f"the balance was answered {status}")
    return int(json.loads(body)["posted_micros"])

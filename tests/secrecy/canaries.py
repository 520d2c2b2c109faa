"""The campaign of canaries: `make canary`, a plugin that is on when pytest is told `-p` of it.

Every gateway that a test starts runs at debug level with canaries for secrets. When a test is over,
all that came out is looked through for every secret in every form, and a find fails the test. What
came out is: output of processes, logs of this process, answers, metrics, spans and alerts that were
sent out, and what is left in folders and databases. Owns the hooks of pytest.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import planting
from safelight.telemetry import JsonFormatter
from secrecy.cage import Cage, Find
from secrecy.children import CRASH_DUMPS, watched
from secrecy.listening import Collector, listen

NAME = "canaries of secrecy"
CUSTOMERS_LOGGERS = ("openai", "httpx", "httpcore", "botocore", "werkzeug", "moto", "websockets")
"""Of libraries that play customers and vendors here: they may know their own key."""
CHATTY_LOGGERS = ("uvicorn.error", "pyvips", "asyncio")
"""Which `telemetry.configure` silences for a server at debug level, too."""


class Leaked(AssertionError):
    """A secret was seen where none may be."""


class _Ear(logging.Handler):
    """Hears every record of this process as `safelight serve` would write it."""

    def __init__(self, cage: Cage) -> None:
        super().__init__(logging.DEBUG)
        self._cage = cage
        self.setFormatter(JsonFormatter())
        self._unfiltered = logging.Formatter("%(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        """Note the line, and what only the filter kept out of it."""
        if record.name.startswith(CUSTOMERS_LOGGERS):
            return
        line = self.format(record)
        self._cage.see(f"log of {record.name}", line.encode())
        for name in set(self._cage.hears(self._unfiltered.format(record))):
            if name not in self._cage.hears(line):
                self._cage.only_filtered.add(f"{name} in the log of {record.name}")


class Campaign:
    """The hooks, over one cage for each process of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        collector = Collector(lambda path, said: self._cage.see(f"{path} sent out", said))
        self._cage = Cage(collector.url)
        self._ear = _Ear(self._cage)
        self._looked: set[str] = set()
        self._finds: list[tuple[str, Find]] = []
        self._counts: Counter[str] = Counter()
        """Of the workers that have ended."""

    def begin(self) -> None:
        """Plant canaries in all that follows."""
        planting.begin(self._cage)
        os.environ.update(CRASH_DUMPS)
        # Not safelight's, and the one place through which all processes go.
        setattr(subprocess, "Popen", watched(self._cage))  # noqa: B010
        listen(self._cage)
        # How long an example takes is no question of secrets.
        unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.register_profile("canaries", unhurried)
        settings.load_profile("canaries")
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        """Listen at debug level while a test runs."""
        root = logging.getLogger()
        before = root.level
        root.addHandler(self._ear)
        root.setLevel(logging.DEBUG)
        try:
            return (yield)
        finally:
            root.removeHandler(self._ear)
            root.setLevel(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Look, once nothing of the test runs any more."""
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        result = yield
        folders = [folder] if isinstance(folder, Path) else []
        self._looked |= {one.name for one in folders}
        self._cage.counts["tests"] += 1
        self._judge(item.nodeid, self._cage.look(folders))
        return result

    def last_look(self, base: Path) -> None:
        """Look through the folders of what outlives single tests."""
        self._judge("the whole run", self._cage.look([base], into=self._looked))

    def _judge(self, where: str, finds: list[Find]) -> None:
        if finds:
            self._finds += [(where, find) for find in finds]
            raise Leaked("\n".join(map(str, finds)))

    def pytest_sessionfinish(self) -> None:
        """Hand the counts to the process that reports."""
        told: Any = getattr(self._config, "workeroutput", None)
        if told is not None:
            told["canary"] = (dict(self._cage.counts), sorted(self._cage.only_filtered))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the counts of a worker."""
        counts, filtered = getattr(node, "workeroutput", {}).get("canary", ({}, ()))
        self._counts.update(counts)
        self._cage.only_filtered.update(filtered)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how much was looked through, and what the last filter alone has kept back."""
        counts = self._counts + self._cage.counts
        said = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        terminalreporter.section("canaries")
        terminalreporter.line(f"looked through: {said}")
        for one in sorted(self._cage.only_filtered):
            terminalreporter.line(f"kept by the last filter alone: {one}")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin, where pytest is told of this plugin, before any module takes a secret."""
    campaign = Campaign(early_config)
    campaign.begin()
    early_config.pluginmanager.register(campaign, NAME)


@pytest.fixture(scope="session", autouse=True)
def _last_look(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The first fixture of all is the last to end."""
    yield
    campaign = pytestconfig.pluginmanager.get_plugin(NAME)
    assert isinstance(campaign, Campaign)
    campaign.last_look(tmp_path_factory.getbasetemp())

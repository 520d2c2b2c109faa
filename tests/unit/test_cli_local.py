"""The local commands with an office and a server of the tests' own: what goes to which output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from safelight.admin_keys import AdminKey, Role
from safelight.cli import main
from safelight.cli.services import ServerInfo, Services
from safelight.config import (
    BillingConfig,
    Config,
    LimitsConfig,
    PoolConfig,
    ServerConfig,
    StorageConfig,
)
from safelight.errors import ConfigError
from safelight.ledger import WouldOverdraw
from safelight.types import Balance, BudgetState, LimitChange


@dataclass(frozen=True)
class Key:
    id: str
    customer: str
    name: str
    created_at: int
    last4: str
    revoked_at: int | None
    balance_micros: int
    credit_line_micros: int = 0
    requests_per_minute: int | None = None
    max_in_flight: int | None = None
    budgets: tuple[BudgetState, ...] = ()
    frozen_at: int | None = None
    keep_alive: bool = False


@dataclass
class BookOffice:
    """Keeps customers in a dict; what the real office keeps in the database."""

    folder: Path = Path()
    posted: dict[str, int] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    limits: LimitChange | None = None

    async def create_admin_key(self, name: str, role: Role) -> tuple[str, AdminKey]:
        raise NotImplementedError  # test_cli_admin.py has these over the real office

    async def list_admin_keys(self) -> list[AdminKey]:
        raise NotImplementedError

    async def revoke_admin_key(self, key_id: str) -> AdminKey | None:
        raise NotImplementedError

    async def create_customer_key(self, name: str, credit_micros: int, limits: LimitChange) -> str:
        self.limits = limits
        self.posted[name] = self.posted.get(name, 0) + credit_micros
        number = len(self.keys) + 1
        moment = 1_800_000_000_000
        self.keys[f"key_{number}"] = Key(
            f"key_{number}", name, name, moment, "abcd", None, self.posted[name]
        )
        return f"sk-secret-{number}"

    async def list_keys(self) -> list[Key]:
        return list(self.keys.values())

    async def set_keep_alive(self, key_id: str, *, on: bool) -> bool:
        if key_id not in self.keys:
            return False
        self.keys[key_id] = replace(self.keys[key_id], keep_alive=on)
        return True

    async def revoke_key(self, key_id: str) -> bool:
        return self.keys.pop(key_id, None) is not None

    async def credit(self, customer: str, amount_micros: int, reason: str) -> Balance:
        posted = self.posted[customer] + amount_micros
        if posted < 0:
            raise WouldOverdraw
        self.posted[customer] = posted
        self.reasons.append(reason)
        return Balance(posted, 0, posted)

    async def limit_key(self, key_id: str, change: LimitChange) -> Key:
        if key_id not in self.keys:
            raise LookupError(key_id)
        self.limits = change
        return self.keys[key_id]

    async def set_credit_line(self, customer: str, line_micros: int) -> Balance:
        posted = self.posted[customer]
        if posted < -line_micros:
            raise WouldOverdraw
        self.lines[customer] = line_micros
        return Balance(posted, 0, posted, line_micros)

    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[BookOffice]:
        self.folder = folder
        yield self


@pytest.fixture(autouse=True)
def in_folder_with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secrets.json").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("SAFELIGHT_DATA", "SAFELIGHT_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def office() -> BookOffice:
    return BookOffice()


@pytest.fixture
def services(office: BookOffice) -> Services:
    return Services(open_office=office.open)


def test_keys_create_prints_nothing_but_the_key(
    services: Services, office: BookOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is the key alone, ready for `$(...)`."""
    argv = ["keys", "create", "acme", "--credit", "100.00", "--data", "books"]
    assert main(argv, services) == 0
    shown = capsys.readouterr()
    assert shown.out == "sk-secret-1\n"
    assert "100.000000" in shown.err
    assert office.posted == {"acme": 100_000_000}
    assert office.folder == Path("books")


def test_keys_speak_json(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of the keys commands has a JSON form."""
    assert main(["keys", "create", "acme", "--credit", "0.03", "--json"], services) == 0
    made = msgspec.json.decode(capsys.readouterr().out)
    assert made == {"customer": "acme", "key": "sk-secret-1", "credit_micros": 30_000}
    assert main(["keys", "list", "--json"], services) == 0
    listed = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert listed[0]["created_at"] == 1_800_000_000
    assert listed[0]["available_micros"] == 30_000
    assert main(["keys", "revoke", "key_1", "--json"], services) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"id": "key_1", "revoked": True}


def test_how_a_key_is_answered_can_be_changed(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "acme"], services) == 0
    for option, on in (("--keep-alive", True), ("--no-keep-alive", False)):
        capsys.readouterr()
        assert main(["keys", "set", "key_1", option, "--json"], services) == 0
        assert msgspec.json.decode(capsys.readouterr().out) == {"id": "key_1", "keep_alive": on}
        assert main(["keys", "list", "--json"], services) == 0
        (row,) = msgspec.json.decode(capsys.readouterr().out)["data"]
        assert row["keep_alive"] is on
    assert main(["keys", "set", "key_1"], services) == 2
    assert main(["keys", "set", "key_9", "--keep-alive"], services) == 1
    assert "keys list" in capsys.readouterr().err


def test_keys_list_is_a_table_without_secrets(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list shows ids, customers and balances, never a key."""
    assert main(["keys", "create", "acme", "--credit", "5"], services) == 0
    capsys.readouterr()
    assert main(["keys", "list"], services) == 0
    shown = capsys.readouterr().out
    for fact in ("key_1", "acme", "…abcd", "2027-01-15", "5.000000"):
        assert fact in shown
    assert "sk-secret" not in shown


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["keys", "revoke", "key_9"], "key_9"),
        (["keys", "limit", "key_9", "--rpm", "5"], "key_9"),
        (["credit", "nobody", "5"], "nobody"),
        (["credit", "acme", "-5.01"], "acme has less"),
    ],
)
def test_a_refusal_of_the_office_is_an_error(
    argv: list[str],
    named: str,
    services: Services,
    office: BookOffice,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the office refuses is said on standard error, with exit code 1; nothing is booked."""
    office.posted["acme"] = 5_000_000
    assert main(argv, services) == 1
    shown = capsys.readouterr()
    assert (shown.out, named in shown.err) == ("", True)
    assert office.posted == {"acme": 5_000_000}


@pytest.mark.parametrize(
    "argv",
    [
        ["keys", "list"],
        ["keys", "limit", "key_1", "--rpm", "5"],
        ["keys", "revoke", "key_1"],
        ["credit", "acme", "1"],
        ["credit", "acme", "--line", "1"],
    ],
)
def test_a_slip_in_data_makes_no_folder(argv: list[str], services: Services) -> None:
    """Only `keys create` and `serve` may start a data folder."""
    assert main([*argv, "--data", "dta"], services) == 2
    assert not Path("dta").exists()


@pytest.mark.parametrize("amount", ["ten", "1.0000001", "-1", "1e3", ""])
def test_keys_create_refuses_wrong_credit(
    amount: str, services: Services, office: BookOffice
) -> None:
    """An amount that is not one, or negative, makes no key."""
    assert main(["keys", "create", "acme", f"--credit={amount}"], services) == 2
    assert office.keys == {}


def test_credit_adds_and_takes_back(
    services: Services, office: BookOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    """A negative amount needs no `--` and is booked as an adjustment."""
    office.posted["acme"] = 0
    assert main(["credit", "acme", "10", "--reason", "invoice 7"], services) == 0
    assert main(["credit", "acme", "-2.50"], services) == 0
    assert "7.500000 available" in capsys.readouterr().out
    assert office.posted == {"acme": 7_500_000}
    assert office.reasons == ["invoice 7", "adjustment by the operator"]
    assert main(["credit", "acme", "1", "--json"], services) == 0
    booked = msgspec.json.decode(capsys.readouterr().out)
    assert booked["balance"]["posted_micros"] == 8_500_000
    assert main(["credit", "acme", "0"], services) == 2


# --- limits ---


def test_keys_create_takes_limits(services: Services, office: BookOffice) -> None:
    """What is not named is left to the configuration; `none` is no limit at all."""
    argv = ["keys", "create", "acme", "--budget-day", "5.00", "--budget-total", "1000"]
    assert main([*argv, "--rpm", "60", "--max-in-flight", "none"], services) == 0
    assert office.limits == LimitChange(
        requests_per_minute=60,
        max_in_flight=0,
        budgets={"day": 5_000_000, "total": 1_000_000_000},
    )
    assert main(["keys", "create", "acme"], services) == 0
    assert office.limits == LimitChange()


def test_keys_limit_changes_what_is_named(services: Services, office: BookOffice) -> None:
    """`none` removes a budget, `default` gives a rate back to the configuration."""
    assert main(["keys", "create", "acme"], services) == 0
    argv = ["keys", "limit", "key_1", "--budget-month", "none", "--rpm", "default"]
    assert main(argv, services) == 0
    assert office.limits == LimitChange(requests_per_minute=None, budgets={"month": None})


def test_limits_are_listed(
    services: Services, office: BookOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table shows rates, and of each budget the used and the whole; JSON has all of it."""
    state = BudgetState(
        period="month",
        limit_micros=100_000_000,
        used_micros=81_500_000,
        remaining_micros=18_500_000,
        resets_at=1_801_440_000,
        alerted=80,
    )
    office.keys["key_1"] = Key(
        "key_1", "acme", "acme", 0, "abcd", None, -500_000, 1_000_000, 60, 0, (state,)
    )
    assert main(["keys", "list"], services) == 0
    shown = capsys.readouterr().out
    for fact in ("1.000000", " 60 ", " none ", "81.500000/100.000000"):
        assert fact in shown
    assert main(["keys", "list", "--json"], services) == 0
    (row,) = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert (row["credit_line_micros"], row["requests_per_minute"]) == (1_000_000, 60)
    assert row["max_in_flight"] == 0
    assert row["budgets"] == [msgspec.to_builtins(state)]
    assert main(["keys", "limit", "key_1", "--rpm", "60", "--json"], services) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["id"] == "key_1"


@pytest.mark.parametrize(
    "option",
    [
        "--rpm=0",
        "--rpm=-1",
        "--rpm=many",
        "--max-in-flight=1.5",
        "--budget-day=-1",
        "--budget-day=x",
    ],
)
def test_a_limit_that_is_none_is_refused(
    option: str, services: Services, office: BookOffice
) -> None:
    """A wrong value changes nothing, and so does naming no limit."""
    assert main(["keys", "limit", "key_1", option], services) == 2
    assert main(["keys", "create", "acme", option], services) == 2
    assert main(["keys", "limit", "key_1"], services) == 2
    assert (office.keys, office.limits) == ({}, None)


def test_a_credit_line_is_set_instead_of_an_amount(
    services: Services, office: BookOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is how much the customer may owe; it cannot be less than is owed."""
    office.posted["acme"] = -2_000_000
    assert main(["credit", "acme", "--line", "50.00"], services) == 0
    assert "may owe 50.000000, -2.000000 available" in capsys.readouterr().out
    assert main(["credit", "acme", "--line", "1.99"], services) == 1
    assert "acme owes or holds more than that" in capsys.readouterr().err
    assert office.lines == {"acme": 50_000_000}
    assert main(["credit", "acme", "--line", "5", "--json"], services) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["balance"]["credit_line_micros"] == 5_000_000
    for argv in (["acme"], ["acme", "5", "--line", "5"], ["acme", "--line", "-1"]):
        assert main(["credit", *argv], services) == 2
    assert main(["credit", "nobody", "--line", "5"], services) == 1


# --- serve ---


@dataclass(frozen=True)
class Ready:
    url: str = "http://127.0.0.1:8080"
    first_key: str | None = "sk-first"
    customer: str = "default"
    credit_micros: int = 10_000_000
    channels: tuple[str, ...] = ("gpt-image-2", "gpt-image-2-vip")
    accounts: tuple[str, ...] = ("proof",)
    recovered_jobs: int = 0
    operated: bool = True
    warnings: tuple[str, ...] = ("no account is configured",)


@dataclass
class Desk:
    """Stands in for the configuration file and the server process."""

    ready: Ready = Ready()
    code: int = 0
    loaded: list[tuple[Path | None, Path]] = field(default_factory=list)
    served: list[Config] = field(default_factory=list)

    def load(self, path: Path | None, data: Path) -> Config:
        self.loaded.append((path, data))
        if path and not path.exists():
            raise ConfigError(f"{path}: no such file")
        return Config(
            data_dir=data,
            server=ServerConfig(),
            storage=StorageConfig(),
            billing=BillingConfig(),
            limits=LimitsConfig(),
            pool=PoolConfig(),
            accounts=(),
            channels={},
            path=path,
        )

    def serve(self, config: Config, on_ready: Callable[[ServerInfo], None]) -> int:
        self.served.append(config)
        on_ready(self.ready)
        return self.code

    def services(self) -> Services:
        return Services(serve=self.serve, load_config=self.load)


def test_serve_prints_the_first_key_ready_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    """The first start shows address, channels, accounts and the lines to export."""
    assert main(["serve"], Desk().services()) == 0
    shown = capsys.readouterr()
    assert "export OPENAI_BASE_URL=http://127.0.0.1:8080/v1\n" in shown.out
    assert "export OPENAI_API_KEY=sk-first\n" in shown.out
    assert "gpt-image-2, gpt-image-2-vip" in shown.out
    assert "no account is configured" in shown.err


def test_serve_says_how_an_admin_key_is_made_while_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the data folder that is served, ready to copy; and nothing once there is one."""
    desk = Desk(ready=Ready(operated=False))
    assert main(["serve", "--data", "my data"], desk.services()) == 0
    line = "  safelight admin keys create NAME --role owner --data 'my data'\n"
    assert line in capsys.readouterr().out
    assert main(["serve"], Desk().services()) == 0
    assert "admin keys create" not in capsys.readouterr().out


def test_serve_later_shows_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Further starts have no key to show."""
    assert main(["serve"], Desk(ready=Ready(first_key=None)).services()) == 0
    assert "export" not in capsys.readouterr().out


def test_serve_says_ready_in_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A supervisor can read the address and the first key."""
    assert main(["serve", "--json"], Desk().services()) == 0
    ready = msgspec.json.decode(capsys.readouterr().out)
    assert ready["url"] == "http://127.0.0.1:8080"
    assert ready["first_key"] == "sk-first"


def test_serve_options_stand_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """./safelight.toml is found; --host, --port and --data override."""
    monkeypatch.chdir(tmp_path)
    Path("safelight.toml").touch()
    desk = Desk()
    argv = ["serve", "--host", "0.0.0.0", "--port", "0", "--data", "here"]  # noqa: S104
    assert main(argv, desk.services()) == 0
    assert desk.loaded == [(Path("safelight.toml"), Path("here"))]
    assert (desk.served[0].server.host, desk.served[0].server.port) == ("0.0.0.0", 0)  # noqa: S104


def test_serve_takes_folders_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAFELIGHT_CONFIG and SAFELIGHT_DATA replace the options."""
    config = tmp_path / "my.toml"
    config.touch()
    monkeypatch.setenv("SAFELIGHT_CONFIG", str(config))
    monkeypatch.setenv("SAFELIGHT_DATA", str(tmp_path / "data"))
    desk = Desk()
    assert main(["serve"], desk.services()) == 0
    assert desk.loaded == [(config, tmp_path / "data")]


def test_a_wrong_configuration_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    """The loader's message goes to standard error."""
    assert main(["serve", "--config", "nowhere.toml"], Desk().services()) == 2
    shown = capsys.readouterr()
    assert (shown.out, "nowhere.toml: no such file" in shown.err) == ("", True)


def test_the_servers_exit_code_is_the_commands() -> None:
    """A server that ends badly is seen by the shell."""
    assert main(["serve"], Desk(code=3).services()) == 3


# --- the program ---


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """`safelight --help` is the map of the program."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("serve", "demo", "generate", "edit", "sizes", "keys", "credit", "statement"):
        assert f" {word} " in shown
    assert "Exit codes" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`safelight --version` prints one line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("safelight ")

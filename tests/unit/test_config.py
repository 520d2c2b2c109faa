"""The configuration file: defaults, overrides, and errors that name key, line and known keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from safelight import sizes
from safelight.config import (
    BillingConfig,
    Config,
    ServerConfig,
    StorageConfig,
    load_config,
)
from safelight.errors import ConfigError

SHIPPED = ("gpt-image-2", "gpt-image-2-all", "gpt-image-2-vip")
KEYS = {"OPENAI_KEY_A": "sk-a", "OPENAI_KEY_B": "sk-b", "OPENAI_KEY_STUDIO": "sk-s"}
ACCOUNT = '[[accounts]]\nname = "a"\nupstream = "openai"\napi_key_env = "OPENAI_KEY_A"\n'


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(text: str, environ: Mapping[str, str] = KEYS) -> Config:
        path = tmp_path / "safelight.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, tmp_path / "data", environ=environ)

    return load


@pytest.fixture
def mistake(load: Any) -> Any:
    """Return what a wrong file is told, from `safelight.toml` on."""

    def mistake(text: str, environ: Mapping[str, str] = KEYS) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, environ)
        return re.sub(r"^.*safelight\.toml", "safelight.toml", str(caught.value))

    return mistake


# Defaults


def test_without_a_file_everything_has_its_default() -> None:
    config = load_config(None, Path("data"), environ={})
    assert config.server == ServerConfig()
    assert config.storage == StorageConfig()
    assert config.billing == BillingConfig()
    assert (config.path, config.data_dir, config.warnings) == (None, Path("data"), ())


def test_without_accounts_the_proof_upstream_serves_every_channel() -> None:
    (account,) = load_config(None, Path("data"), environ={}).accounts
    assert (account.name, account.upstream, account.group) == ("proof", "proof", "proof")
    assert account.channels == SHIPPED
    assert (account.api_key, account.images_per_minute, account.max_in_flight) == (None, None, None)


def test_an_empty_file_is_the_defaults(load: Any) -> None:
    config = load("")
    assert msgspec.structs.replace(config, path=None, data_dir=Path("data")) == load_config(
        None, Path("data"), environ={}
    )


def test_the_shipped_channels_are_those_of_the_design() -> None:
    channels = load_config(None, Path("data"), environ={}).channels
    assert tuple(channels) == SHIPPED
    direct, aggregated, vip = channels.values()
    assert (direct.kind, direct.sizes, direct.n_max, direct.retries, direct.link_ttl_s) == (
        *("direct", "legal", 10, False, 3600),
    )
    assert (aggregated.kind, aggregated.sizes, aggregated.n_max, aggregated.retries) == (
        *("aggregated", "hint", 4, True),
    )
    assert (vip.kind, vip.sizes, vip.n_max, vip.retries, vip.quality) == (
        *("pooled", "table", 1, True, ()),
    )
    assert aggregated.price_micros == vip.price_micros == 30_000
    assert aggregated.link_ttl_s == vip.link_ttl_s == 86_400
    assert direct.quality == aggregated.quality == ("low", "medium", "high", "auto")
    assert all(channel.deadline_s == 300 for channel in channels.values())


def test_the_shipped_table_is_that_of_the_sizes_module() -> None:
    vip = load_config(None, Path("data"), environ={}).channels["gpt-image-2-vip"]
    assert vip.size_names == tuple(size.name for size in sizes.TABLE)


# Overrides


def test_sections_override_single_keys(load: Any) -> None:
    config = load('[server]\nport = 9000\n[billing]\nfirst_credit = "0.5"\n')
    assert (config.server.port, config.server.host) == (9000, "127.0.0.1")
    assert (config.billing.first_credit, config.billing.first_customer) == ("0.5", "default")


def test_a_public_url_loses_its_slash(load: Any) -> None:
    assert load('server.public_url = "https://img.example/"').server.public_url == (
        "https://img.example"
    )


def test_a_shipped_channel_is_overridden_key_by_key(load: Any) -> None:
    vip = load("[channels.gpt-image-2-vip]\nprice_micros = 40000\n").channels["gpt-image-2-vip"]
    assert (vip.price_micros, vip.kind, len(vip.size_names)) == (40_000, "pooled", 35)


def test_a_single_price_can_be_overridden(load: Any) -> None:
    prices = (
        load("[channels.gpt-image-2.prices.high]\n4K = 500000\n").channels["gpt-image-2"].prices
    )
    assert prices["high"] == {"1K": 211_000, "2K": 428_160, "4K": 500_000}
    assert prices["low"]["1K"] == 6_000


def test_a_flat_price_replaces_a_shipped_table_and_the_reverse(load: Any) -> None:
    direct = load("[channels.gpt-image-2]\nprice_micros = 1\n").channels["gpt-image-2"]
    assert (direct.price_micros, direct.prices) == (1, {})
    rows = "{ high = { 1K = 1, 2K = 2, 4K = 3 } }"
    vip = load(f"[channels.gpt-image-2-vip]\nprices = {rows}\n").channels["gpt-image-2-vip"]
    assert (vip.price_micros, vip.prices) == (None, {"high": {"1K": 1, "2K": 2, "4K": 3}})


def test_a_table_channel_turned_legal_forgets_its_names(load: Any) -> None:
    vip = load('[channels.gpt-image-2-vip]\nsizes = "legal"\n').channels["gpt-image-2-vip"]
    assert vip.size_names == ()


def test_a_new_channel_is_added_after_the_shipped_ones(load: Any) -> None:
    text = '[channels."studio:xl"]\nkind = "pooled"\nsizes = "legal"\nprice_micros = 5\n'
    config = load(text)
    assert tuple(config.channels) == (*SHIPPED, "studio:xl")
    assert config.accounts[0].channels == (*SHIPPED, "studio:xl")


def test_a_channel_can_be_switched_off(load: Any) -> None:
    config = load("channels.gpt-image-2-all.enabled = false\n" + ACCOUNT)
    assert tuple(config.channels) == ("gpt-image-2", "gpt-image-2-vip")
    assert config.accounts[0].channels == ("gpt-image-2", "gpt-image-2-vip")


def test_an_account_may_keep_the_name_of_a_channel_that_is_off(load: Any) -> None:
    text = ACCOUNT + 'channels = ["gpt-image-2-all", "gpt-image-2"]\n'
    config = load(text + "[channels.gpt-image-2-all]\nenabled = false\n")
    assert config.accounts[0].channels == ("gpt-image-2",)


# Accounts


def test_an_openai_account_has_its_defaults(load: Any) -> None:
    (account,) = load(ACCOUNT).accounts
    assert (account.base_url, account.group, account.model) == (*("", "a", "gpt-image-2"),)
    assert account.channels == SHIPPED
    assert account.api_key is not None
    assert account.api_key.reveal() == "sk-a"
    assert "sk-a" not in repr(account)


def test_a_server_of_ones_own_needs_no_key(load: Any) -> None:
    text = '[[accounts]]\nname = "a"\nupstream = "openai"\nbase_url = "http://127.0.0.1:9000/v1/"\n'
    (account,) = load(text).accounts
    assert (account.base_url, account.api_key) == ("http://127.0.0.1:9000/v1", None)


def test_what_only_the_upstream_can_judge_is_left_to_it(load: Any) -> None:
    """Options are values of any simple type; an address or a key may be missing until the check."""
    text = '[[accounts]]\nname = "a"\nupstream = "openai"\n'
    text += 'options = { profile = "localai", heartbeat = 2, odd = true, share = 0.5 }\n'
    (account,) = load(text).accounts
    assert (account.base_url, account.api_key) == ("", None)
    assert account.options == {"profile": "localai", "heartbeat": 2, "odd": True, "share": 0.5}


def test_tiers_and_costs(load: Any) -> None:
    (account,) = load(ACCOUNT + "tier = 3\nimage_cost_micros = 12000\n").accounts
    assert (account.tier, account.image_cost_micros) == (3, 12_000)
    (account,) = load(ACCOUNT).accounts
    assert (account.tier, account.image_cost_micros) == (1, None)


@pytest.mark.parametrize("limit", ["images", "input_images", "requests"])
def test_every_limit_is_the_groups(load: Any, limit: str) -> None:
    text = ACCOUNT + f'group = "org"\n{limit}_per_minute = 5\n'
    text += ACCOUNT.replace('"a"', '"b"') + 'group = "org"\n'
    assert [getattr(one, f"{limit}_per_minute") for one in load(text).accounts] == [5.0, 5.0]
    with pytest.raises(ConfigError, match=f"{limit}_per_minute: another account of group 'org'"):
        load(f"{text}{limit}_per_minute = 6\n")


def test_a_groups_limit_is_stated_once_and_holds_for_all_of_it(load: Any) -> None:
    text = ACCOUNT + 'group = "org"\nimages_per_minute = 5\n'
    text += ACCOUNT.replace('"a"', '"b"') + 'group = "org"\n'
    text += ACCOUNT.replace('"a"', '"c"')
    assert [account.images_per_minute for account in load(text).accounts] == [5.0, 5.0, None]


def test_a_channel_without_an_account_is_a_warning(load: Any) -> None:
    warnings = load(ACCOUNT + 'channels = ["gpt-image-2", "gpt-image-2-vip"]\n').warnings
    assert len(warnings) == 1
    assert "no account serves channel 'gpt-image-2-all'" in warnings[0]


def test_a_channel_whose_batches_no_account_may_send_on_is_a_warning(load: Any) -> None:
    channel = '[channels.gpt-image-2-vip]\nvendor_batches = "asked"\n'
    (warning,) = load(ACCOUNT + channel).warnings
    assert "'gpt-image-2-vip' sends batches to vendors' Batch APIs" in warning
    assert load(ACCOUNT + "vendor_batches = true\n" + channel).warnings == ()


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://images.lan/v1", True),
        ("http://10.0.0.1/v1", True),
        ("http://127.0.0.1/v1", False),
        ("http://[::1]:80/v1", False),
        ("http://localhost/v1", False),
        ("https://images.lan/v1", False),
    ],
)
def test_a_key_sent_in_clear_is_a_warning(load: Any, url: str, warned: bool) -> None:
    assert any("plain http" in w for w in load(f'{ACCOUNT}base_url = "{url}"\n').warnings) == warned


# Mistakes, with their lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\n[sever]\nport = 1\n",
            ":2: sever: unknown key; did you mean 'server'? known keys: server, storage,",
        ),
        ("[server]\nhost = 'a'\nprot = 1\n", ":3: server.prot: unknown key; did you mean 'port'?"),
        (ACCOUNT + "modle = 'x'\n", ":5: accounts[0].modle: unknown key; did you mean 'model'?"),
        ("[server]\nport = 65536\n", ":2: server.port: expected integer <= 65535"),
        ("[server]\nport = -1\n", ":2: server.port: expected integer >= 0"),
        ("[server]\nport = '80'\n", ":2: server.port: expected integer, got string"),
        ("[server]\nport = true\n", ":2: server.port: expected integer, got boolean"),
        ("[server]\nhost = ''\n", ":2: server.host: expected string of length >= 1"),
        ("[server]\nbody_timeout_s = 0\n", ":2: server.body_timeout_s: expected float > 0"),
        ("body = 1\n[server]\n", ":1: body: unknown key;"),
        ("[server]\nbody_min_bytes_per_s = 0\n", ":2: server.body_min_bytes_per_s: expected integ"),
        ("[server]\ndrain_s = nan\n", ":2: server.drain_s: expected float >= 0"),
        ("[server]\ndrain_s = inf\n", ":2: server.drain_s: expected float <= 86400"),
        ("[server]\n\nmax_file_bytes = 67108865\n", ":3: server.max_file_bytes: may not exceed"),
        (
            "[server]\nmax_buffered_bytes = 67108863\n",
            ":2: server.max_buffered_bytes: may not be b",
        ),
        (
            "[channels.gpt-image-2]\nshutdown_date = '2027-99-99'\n",
            ":2: channels.gpt-image-2.shutdown_date: expected a day that exists",
        ),
        ("[server]\npublic_url = 'img.example'\n", ":2: server.public_url: expected an address"),
        ("server = 5\n", ":1: server: expected a table, written [server]"),
        (
            "[billing]\nfirst_credit = 10.0\n",
            ":2: billing.first_credit: expected string, got float",
        ),
        ("[billing]\nfirst_credit = '1.0000001'\n", ":2: billing.first_credit: an amount is"),
        ("[billing]\nfirst_credit = '-1'\n", ":2: billing.first_credit: a credit is not negative"),
        ("[storage]\nmin_free_bytes = -1\n", ":2: storage.min_free_bytes: expected integer >= 0"),
    ],
)
def test_a_mistake_in_a_section(mistake: Any, text: str, message: str) -> None:
    assert mistake(text).startswith(f"safelight.toml{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[accounts]\nname = 'a'\n", ":1: accounts: expected an array of tables, written [[acc"),
        ("accounts = [5]\n", ":1: accounts[0]: expected a table"),
        ("[[accounts]]\nupstream = 'proof'\n", ":1: accounts[0]: the key 'name' is missing"),
        ("[[accounts]]\nname = 'a'\n", ":1: accounts[0]: the key 'upstream' is missing"),
        (
            "[[accounts]]\nname = 'a'\nupstream = 'opnai'\n",
            ":3: accounts[0].upstream: no such upstream; did you mean 'openai'? known upstreams: ",
        ),
        (
            ACCOUNT + "channels = [\n  'gpt-image-2',\n  'gpt-image-2-vp',\n]\n",
            ":7: accounts[0].channels[1]: no such channel; did you mean 'gpt-image-2-vip'? known",
        ),
        (ACCOUNT + "channels = []\n", ":5: accounts[0].channels: name the channels to serve"),
        (
            ACCOUNT + "images_per_minute = 0\n",
            ":5: accounts[0].images_per_minute: expected float > ",
        ),
        (ACCOUNT + "max_in_flight = 0\n", ":5: accounts[0].max_in_flight: expected integer >= 1"),
        (ACCOUNT + "idle_timeout_s = -5\n", ":5: accounts[0].idle_timeout_s: expected float > 0"),
        (ACCOUNT + "edits = 'no'\n", ":5: accounts[0].edits: expected boolean, got string"),
        (ACCOUNT + ACCOUNT, ":6: accounts[1].name: another account is named 'a' already"),
        (
            ACCOUNT + "group='g'\nimages_per_minute=5\n[[accounts]]\nname='b'\nupstream='proof'\n"
            "group='g'\nimages_per_minute=6\n",
            ":11: accounts[1].images_per_minute: another account of group 'g' states 5;",
        ),
    ],
)
def test_a_mistake_in_an_account(mistake: Any, text: str, message: str) -> None:
    assert mistake(text).startswith(f"safelight.toml{message}")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://h/v1", "h:80/v1", "https://", "http://h:99999", "http://[::1", "http://h:0"),
        *(
            "https://u:p@h/v1",
            "https://h/v1?x=1",
            "https://h/v1#f",
            "https://h/v1?",
            "http://h /v1",
        ),
        "http://h/\\nX-Evil: 1",
    ],
)
def test_a_base_url_is_plain_http(mistake: Any, url: str) -> None:
    told = mistake(f'{ACCOUNT}base_url = "{url}"\n')
    assert told.startswith("safelight.toml:5: accounts[0].base_url: ")
    assert "p@" not in told


def test_a_missing_environment_variable_is_named(mistake: Any) -> None:
    told = mistake(ACCOUNT, {})
    assert told.startswith("safelight.toml:4: accounts[0].api_key_env: ")
    assert told.endswith("the environment variable OPENAI_KEY_A is not set")
    assert "OPENAI_KEY_A is not set" in mistake(ACCOUNT, {"OPENAI_KEY_A": "  "})


@pytest.mark.parametrize("key", ["sk-secret\nX-Evil: 1", "sk secret", "sk-\u00e9secret"])
def test_an_unusable_key_is_refused_without_showing_it(mistake: Any, key: str) -> None:
    told = mistake(ACCOUNT, {"OPENAI_KEY_A": key})
    assert "OPENAI_KEY_A holds no usable credential" in told
    assert "secret" not in told


def test_a_key_in_the_file_is_refused_without_showing_it(mistake: Any) -> None:
    told = mistake('[[accounts]]\nname = "a"\nupstream = "openai"\napi_key = "sk-secret"\n')
    assert told.startswith("safelight.toml:4: accounts[0].api_key: ")
    assert "api_key_env" in told
    assert "sk-secret" not in told


def test_a_key_in_place_of_a_variables_name_is_refused_without_showing_it(mistake: Any) -> None:
    told = mistake(ACCOUNT.replace("OPENAI_KEY_A", "sk-secret"))
    assert told.startswith("safelight.toml:4: accounts[0].api_key_env: expected the name")
    assert "sk-secret" not in told


VIP = "[channels.gpt-image-2-vip]\n"
NEW = "[channels.x]\nkind = 'pooled'\nsizes = 'table'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channels = 5\n", ":1: channels: expected tables, written [channels.NAME]"),
        ("[channels]\ngpt-image-2 = 5\n", ":2: channels.gpt-image-2: expected a table"),
        ("[channels.'a b']\n", ':1: channels."a b": expected string matching regex'),
        ("[channels.x]\nsizes = 'legal'\n", ":1: channels.x: the key 'kind' is missing"),
        (NEW, ":1: channels.x: state either price_micros (one price) or prices"),
        (
            VIP + "price_micros = -1\n",
            ":2: channels.gpt-image-2-vip.price_micros: expected integer >",
        ),
        (
            VIP + "price_micros = 0.03\n",
            ":2: channels.gpt-image-2-vip.price_micros: expected integer",
        ),
        (
            VIP + "price = 1\n",
            ":2: channels.gpt-image-2-vip.price: unknown key; did you mean 'price",
        ),
        (VIP + "n_max = 11\n", ":2: channels.gpt-image-2-vip.n_max: expected integer <= 10"),
        (VIP + "deadline_s = 0\n", ":2: channels.gpt-image-2-vip.deadline_s: expected float > 0"),
        (
            VIP + "link_ttl_s = 0\n",
            ":2: channels.gpt-image-2-vip.link_ttl_s: expected integer >= 1",
        ),
        (
            VIP + "sizes = 'tabel'\n",
            ":2: channels.gpt-image-2-vip.sizes: not among the choices; did you mean 'table'?",
        ),
        (
            VIP + "size_names = [\n'1024x1024',\n'9000x9000']\n",
            ":4: channels.gpt-image-2-vip.size_names[1]: Invalid size '9000x9000'.",
        ),
        (
            VIP + "size_names = ['16:9@2K']\n",
            ":2: channels.gpt-image-2-vip.size_names[0]: expected WIDTHxHEIGHT",
        ),
        (
            "[channels.gpt-image-2]\nsize_names = ['1024x1024']\n",
            ':2: channels.gpt-image-2.size_names: only a channel with sizes = "table"',
        ),
        (
            "[channels.gpt-image-2]\nquality = ['ultra']\n",
            ":1: channels.gpt-image-2.prices: there is no price for quality 'ultra'",
        ),
        (
            "[channels.gpt-image-2.prices.high]\n8K = 1\n",
            ":2: channels.gpt-image-2.prices.high.8K: unknown key;",
        ),
        (
            "[channels.gpt-image-2.prices]\nlow = { 1K = -5 }\n",
            ":2: channels.gpt-image-2.prices.low.1K: expected integer >= 0",
        ),
        (
            "[channels.gpt-image-2.prices.ultra]\n1K = 1\n",
            ":1: channels.gpt-image-2.prices.ultra: the price of tier 2K is missing",
        ),
        (
            NEW + "[channels.x.prices]\nlow = { 1K = 1, 2K = 1, 4K = 1 }\n",
            ":4: channels.x.prices: there is no price for quality 'high'",
        ),
        (
            "[channels]\n" + "".join(f"{name}.enabled = false\n" for name in SHIPPED),
            ":1: channels: every channel is switched off",
        ),
    ],
)
def test_a_mistake_in_a_channel(mistake: Any, text: str, message: str) -> None:
    assert mistake(text).startswith(f"safelight.toml{message}")


# Files that are not even TOML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nport =\n", r"safelight\.toml:2: is not valid TOML: Invalid value \(column 7\)"),
        ("a = 1\na = 2\n", r"safelight\.toml:2: is not valid TOML: Cannot overwrite"),
        ("x = 'a\n", r"safelight\.toml:1: is not valid TOML: "),
        ("x = 1\ny = '''a\n", r"safelight\.toml:2: is not valid TOML: .*\(at the end\)"),
    ],
)
def test_a_syntax_error_carries_its_line(mistake: Any, text: str, message: str) -> None:
    assert re.match(message, mistake(text))


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"[server]\nhost = '\xe9'\n")
    with pytest.raises(ConfigError, match=r"latin\.toml:2: is not UTF-8"):
        load_config(path, tmp_path, environ={})


def test_a_byte_order_mark_and_windows_newlines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 81\r\n")
    assert load_config(path, tmp_path, environ={}).server.port == 81


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_config(tmp_path / "none.toml", tmp_path, environ={})

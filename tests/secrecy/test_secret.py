"""A secret does not show itself, and is read from places that are nobody else's."""

from __future__ import annotations

import copy
import os
import pickle
import pprint
import traceback
from pathlib import Path

import msgspec
import pytest

from safelight import supervising
from safelight.config import load_config
from safelight.config_watch import WatchConfig
from safelight.errors import ConfigError
from safelight.types import Account, Secret

VALUE = "a-secret-of-the-tests-4711"


def _account(key: Secret) -> Account:
    return Account(name="a", upstream="proof", group="g", channels=("c",), api_key=key)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        lambda it: f"{it}",
        lambda it: f"{it!r:>40}",
        lambda it: f"{it:>40}",
        lambda it: "%s %r" % (it, it),  # noqa: UP031  (the old form must not show it either)
        lambda it: pprint.pformat({"key": it}),
        lambda it: repr(msgspec.structs.asdict(_account(it))),
        lambda it: repr(_account(it)),
    ],
)
def test_no_way_of_printing_shows_it(show: object) -> None:
    assert callable(show)
    shown = show(Secret(VALUE))
    assert VALUE not in shown
    assert "***" in shown


def test_json_and_pickles_refuse_it() -> None:
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps):
        with pytest.raises(TypeError) as caught:
            encode(Secret(VALUE))
        assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_a_copy_is_the_secret_itself_and_not_three_stars() -> None:
    secret = Secret(VALUE)
    assert copy.copy(secret).reveal() == VALUE
    assert copy.deepcopy({"key": secret})["key"].reveal() == VALUE


def test_it_is_compared_with_what_a_caller_sends() -> None:
    assert Secret(VALUE).matches(VALUE)
    assert not Secret(VALUE).matches(VALUE[:-1])
    assert not Secret(VALUE).matches("")


def _config(tmp_path: Path, account: str) -> Path:
    path = tmp_path / "safelight.toml"
    path.write_text(f'[[accounts]]\nname = "a"\nupstream = "openai"\n{account}\n')
    return path


def _key_file(tmp_path: Path, content: str = VALUE + "\n", mode: int = 0o600) -> Path:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_is_read_from_a_file_of_its_owner(tmp_path: Path, mode: int) -> None:
    key = _key_file(tmp_path, mode=mode)
    config = load_config(_config(tmp_path, f'api_key_file = "{key}"'), tmp_path, environ={})
    found = config.accounts[0].api_key
    assert found is not None
    assert found.reveal() == VALUE
    decoded = supervising.decode(supervising.encode(supervising.Settings(1, config))[8:])
    passed_on = decoded.config.accounts[0].api_key
    assert passed_on is not None
    assert passed_on.reveal() == VALUE


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (VALUE, 0o640, "mode 640"),
        (VALUE, 0o604, "mode 604"),
        (VALUE, 0o620, "mode 620"),
        ("", 0o600, "no usable credential"),
        (f"{VALUE} {VALUE}", 0o600, "no usable credential"),
        (f"{VALUE}\n{VALUE}", 0o600, "no usable credential"),
        (VALUE + "\u00e9", 0o600, "no usable credential"),
        ("x" * 20_000, 0o600, "no usable credential"),
    ],
)
def test_a_file_that_others_may_use_or_with_no_key_is_refused_and_not_quoted(
    tmp_path: Path, content: str, mode: int, said: str
) -> None:
    key = _key_file(tmp_path, content, mode)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(_config(tmp_path, f'api_key_file = "{key}"'), tmp_path, environ={})
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("by", ["token", "webhook_secret"])
def test_every_secret_of_the_file_may_be_in_a_variable_or_in_a_file_but_not_in_both(
    tmp_path: Path, by: str
) -> None:
    """As accounts' keys; the tables that watch the gateway have the other two."""
    named = {"token": "metrics", "webhook_secret": "alerts"}[by]
    path = tmp_path / "safelight.toml"

    def read(*lines: str) -> WatchConfig:
        path.write_text("\n".join([f"[{named}]", *lines]))
        return load_config(path, tmp_path, environ={"NAMED": VALUE}).watch

    key = _key_file(tmp_path)
    for line in (f'{by}_env = "NAMED"', f'{by}_file = "{key}"'):
        watch = read(line)
        found = {"token": watch.metrics_token, "webhook_secret": watch.alerts_secret}[by]
        assert found is not None
        assert found.reveal() == VALUE
    with pytest.raises(ConfigError, match=f"{named}.{by}_file: .* leave one of the two out"):
        read(f'{by}_env = "NAMED"', f'{by}_file = "{key}"')
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=rf"{named}\.{by}_file: others may use .*mode 644"):
        read(f'{by}_file = "{key}"')


@pytest.mark.parametrize(
    "table",
    [
        '[metrics]\naccess = "token"\ntoken_file',
        '[alerts]\nwebhook_url = "https://ops.example.com"\nwebhook_secret_file',
    ],
)
def test_a_file_is_enough_where_a_secret_is_needed(tmp_path: Path, table: str) -> None:
    path = tmp_path / "safelight.toml"
    path.write_text(f'{table} = "{_key_file(tmp_path)}"\n')
    watch = load_config(path, tmp_path, environ={}).watch
    assert [watch.metrics_token, watch.alerts_secret].count(None) == 1


def test_a_missing_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("missing", "folder", "pipe"):
        with pytest.raises(ConfigError, match="api_key_file"):
            load_config(
                _config(tmp_path, f'api_key_file = "{tmp_path / name}"'), tmp_path, environ={}
            )


def test_a_key_comes_from_one_place(tmp_path: Path) -> None:
    account = f'api_key_env = "KEY_A"\napi_key_file = "{_key_file(tmp_path)}"'
    with pytest.raises(ConfigError, match="leave one of the two out"):
        load_config(_config(tmp_path, account), tmp_path, environ={"KEY_A": VALUE})


def test_a_key_in_place_of_its_variables_name_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(_config(tmp_path, f'api_key_env = "{VALUE}"'), tmp_path, environ={})
    assert VALUE not in str(caught.value)

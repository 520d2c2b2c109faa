"""An account's options, converted to the struct in which an adapter declares them.

Owns the conversion and its errors, which name the account and the option. Which options there are
and what they mean is each adapter's own.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from safelight.config_file import known
from safelight.errors import ConfigError
from safelight.types import Account

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


def read_options(account: Account, kind: type[OptionsT]) -> OptionsT:
    """Return the account's options as `kind`, a struct in which every field has a default.

    Raises:
        ConfigError: an option is unknown, or has a value that is not taken.
    """
    names = kind.__struct_fields__
    for name in account.options:
        if name not in names:
            there = known("options", name, names) if names else "it takes no options"
            raise bad_option(account, name, f"upstream {account.upstream!r} has none: {there}")
    try:
        return msgspec.convert(account.options, kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).replace("`", "").partition(" - at $.")
        raise bad_option(account, place, problem[:1].lower() + problem[1:]) from None


def bad_option(account: Account, name: str, problem: str) -> ConfigError:
    """Return the error for one option of an account."""
    return ConfigError(f"account {account.name!r}: option {name!r}: {problem}")


def bad_account(account: Account, problem: str) -> ConfigError:
    """Return the error for what an account lacks."""
    return ConfigError(f"account {account.name!r}: {problem}")

"""The canaries of one test run: what was planted, what was made, and where any of it was seen.

Owns the values, the look through what came out, and the counts of it. What is left on disks
`remains` reads; where a secret may be seen is `allowed`'s.
"""

from __future__ import annotations

import hashlib
import re
import threading
import tomllib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from safelight import key_text
from secrecy import allowed, remains
from secrecy.forms import LEAST, forms, keys_in

KEY_OF_OURS = "key of ours"
_COOKIE = re.compile(r"=([A-Za-z0-9_-]{43});")
_ID_CHARS, _SUM_CHARS = 8, 6


class Find(NamedTuple):
    """That a secret was seen where none may be."""

    secret: str
    place: str

    def __str__(self) -> str:
        return f"{self.secret} in {self.place}"


class Cage:
    """Plants canaries and looks for them. Everything may be called from any thread.

    Args:
        collector_url: origin of a server that takes traces and alerts and shows them to `see`.
    """

    def __init__(self, collector_url: str = "") -> None:
        self.collector_url = collector_url
        self.counts: Counter[str] = Counter()
        self.only_filtered: set[str] = set()
        """What the last filter alone kept out of a log."""
        self._planted: dict[str, str] = {}
        self._made: dict[bytes, str] = {}
        self._owners: set[str] = set()
        self._seen: list[tuple[str, bytes]] = []
        self._forms: dict[bytes, frozenset[bytes]] = {}
        self._lock = threading.Lock()

    # --- what is planted -----------------------------------------------------------------------

    def secret(self, name: str) -> str:
        """Return the canary of a name: no pattern knows it, and every quoting changes it."""
        number = hashlib.sha256(name.encode()).hexdigest()[:12]
        found = f'cnry/{name.replace(" ", "-")}+"{number}"=x'
        with self._lock:
            self._planted[name] = found
        return found

    def alerts_secret(self) -> str:
        """Return the secret that alerts are signed with, in the shape that it must have."""
        raw = hashlib.sha256(b"canary of alerts").digest()
        found = "whsec_" + b64encode(raw).decode()
        with self._lock:
            self._planted["alerts secret"] = found
            self._made[raw] = "alerts secret, raw"
        return found

    def environ(self) -> Mapping[str, str]:
        """Return the variables that `config` names."""
        return {
            "CANARY_METRICS_TOKEN": self.secret("metrics token"),
            "CANARY_ALERTS_SECRET": self.alerts_secret(),
        }

    def config(self, text: str) -> str:
        """Add to a configuration what it does not say itself; one that is no TOML stays as it is.

        New tables come last, so that errors name the lines that the test knows.
        """
        try:
            said = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return text
        if "level" not in said.get("logs", {}):
            text = _with(text, "logs", 'level = "debug"')
        if "token_env" not in said.get("metrics", {}):
            text = _with(text, "metrics", 'token_env = "CANARY_METRICS_TOKEN"')
        if "webhook_url" not in said.get("alerts", {}):
            told = f'webhook_url = "{self.collector_url}/alert"'
            text = _with(text, "alerts", f'{told}\nwebhook_secret_env = "CANARY_ALERTS_SECRET"')
        if "traces" not in said:
            text = _with(text, "traces", f'endpoint = "{self.collector_url}/trace"')
        return text

    # --- what is made and what is seen -----------------------------------------------------------

    def learn(self, name: str, value: str | bytes) -> None:
        """Note a secret of this test."""
        raw = value.encode() if isinstance(value, str) else value
        if len(raw) >= LEAST:
            with self._lock:
                self._made[raw] = name

    def see(self, place: str, said: bytes) -> None:
        """Note what came out, for the look at the end of the test."""
        with self._lock:
            self._seen.append((place, said))
            self.counts[place.partition(" ")[0]] += 1
        for key in keys_in(said):
            self._learn_key(key)

    def answer(self, route: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Note an answer over HTTP. Its cookie is a secret from now on."""
        place = f"answer of {route} {status}"
        head = ""
        for name, value in headers.items():
            if name.lower() == "set-cookie":
                for secret in _COOKIE.findall(value):
                    self.learn("session", secret)
                self.see(f"cookie in the {place}", value.encode())
            else:
                head += f"{name}: {value}\n"
        self.see(place, head.encode() + body)

    def books(self, url: str) -> None:
        """Note all rows of a Postgres."""
        found = remains.postgres(url)
        with self._lock:
            self._owners |= found.webhook_owners
        for table, rows in found.tables:
            self.see(f"postgres table {table}", rows)

    def _learn_key(self, key: str) -> None:
        """Note a key, and the secret in it alone."""
        self.learn(KEY_OF_OURS, key)
        prefix = next(one for one in (key_text.CUSTOMER, key_text.ADMIN) if key.startswith(one))
        self.learn(f"{KEY_OF_OURS}, its secret part", key[len(prefix) + _ID_CHARS : -_SUM_CHARS])

    # --- the look ------------------------------------------------------------------------------

    def look(self, folders: Iterable[Path] = (), *, into: Iterable[str] = ()) -> list[Find]:
        """Look through all that was noted, and through folders; forget what belongs to this test.

        Args:
            folders: each with all below it.
            into: names of folders in `folders` that were looked through before.
        """
        with self._lock:
            seen, self._seen = self._seen, []
            made, self._made = self._made, {}
            owners, self._owners = self._owners, set()
        left = [one for folder in folders for one in remains.of_folder(folder, skip=set(into))]
        owners |= {owner for one in left for owner in one.webhook_owners}
        for one in left:
            made.update(one.secrets(owners))
            seen += one.places
        self.counts["files"] += sum(len(one.places) for one in left)
        self.counts["bytes"] += sum(len(said) for _, said in seen)
        with self._lock:
            made.update({value.encode(): name for name, value in self._planted.items()})
        finds = [find for place, said in seen for find in self._finds(place, said, made)]
        return sorted({find for find in finds if allowed.reason(find.secret, find.place) is None})

    def _finds(self, place: str, said: bytes, secrets: Mapping[bytes, str]) -> Iterable[Find]:
        for secret, name in secrets.items():
            known = self._forms.get(secret)
            if known is None:
                known = self._forms[secret] = forms(secret)
            if any(form in said for form in known):
                yield Find(name, place)
        if keys_in(said):
            yield Find(KEY_OF_OURS, place)

    def hears(self, text: str) -> list[str]:
        """Return the names of planted secrets in a text, now."""
        raw = text.encode("utf-8", "backslashreplace")
        with self._lock:
            planted = {value.encode(): name for name, value in self._planted.items()}
        return [find.secret for find in self._finds("", raw, planted)]


def _with(text: str, table: str, line: str) -> str:
    """Return a configuration with a line in a table of it, which comes last if it is new."""
    head = re.compile(rf"^\[{table}\][ \t]*(?:#.*)?$", re.MULTILINE)
    if head.search(text) is None:
        return f"{text.rstrip()}\n[{table}]\n{line}\n"
    return head.sub(lambda match: f"{match.group()}\n{line}", text, count=1)

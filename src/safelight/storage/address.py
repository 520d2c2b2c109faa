"""Where a data folder's pictures are: in its own folder, or in a bucket that the operator names.

Owns the form of a bucket's address, what SAFELIGHT_STORAGE_URL and `[storage] url` say, and the
file `storage` in a data folder, which remembers where its pictures are: a forgotten variable must
not open an empty store. Credentials are in no address and in no file. Opens nothing.

    s3://bucket/prefix?endpoint=https://host&region=name&style=path|virtual&http=allow
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from safelight.durable import fsync_folder
from safelight.errors import ConfigError

VARIABLE = "SAFELIGHT_STORAGE_URL"
NOTE = "storage"
FOLDER = ""
"""The address of the store in the data folder itself."""
DEFAULT_REGION = "us-east-1"
"""What compatibles take that know no regions."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/=-]{0,512}")
_PARAMETERS = ("endpoint", "region", "style", "http")


@dataclass(frozen=True)
class BucketAddress:
    """A bucket and the folder in it.

    `endpoint` is the origin of the API, empty for Amazon's own; `virtual`: the bucket's name
    stands in the host, not in the path; `any_http`: plain http is taken beyond loopback too.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = DEFAULT_REGION
    virtual: bool = False
    any_http: bool = False

    def __str__(self) -> str:
        given: dict[str, str] = {}
        if self.endpoint:
            given["endpoint"] = self.endpoint
        given["region"] = self.region
        if self.virtual == bool(self.endpoint):
            given["style"] = "virtual" if self.virtual else "path"
        if self.any_http:
            given["http"] = "allow"
        folder = f"/{self.prefix}" if self.prefix else ""
        return f"s3://{self.bucket}{folder}?{urlencode(given, safe=':/')}"

    @property
    def origin(self) -> str:
        """The address below which the objects of the bucket lie, without a slash at the end."""
        endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        if not self.virtual:
            return f"{endpoint}/{self.bucket}"
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"


def parse(url: str, *, named: str = VARIABLE) -> BucketAddress:
    """Return the bucket that an address names.

    Args:
        url: the address.
        named: what the operator calls it, for messages. The address itself is never repeated: who
            gets it wrong may have written a credential into it.

    Raises:
        ConfigError: it is no such address.
    """
    try:
        parts = urlsplit(url.strip())
        given = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError:
        raise ConfigError(f"{named} cannot be read; expected {_FORM}") from None
    if parts.scheme != "s3" or parts.fragment:
        raise ConfigError(f"{named} is no address of a bucket; expected {_FORM}")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{named} has credentials in it; take them out and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    unknown = sorted(given.keys() - set(_PARAMETERS))
    if unknown:
        raise ConfigError(
            f"{named} has a parameter that is not known; known are {', '.join(_PARAMETERS)}"
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise ConfigError(f"{named} names no bucket; expected {_FORM}")
    prefix = parts.path.strip("/")
    if not _PREFIX.fullmatch(prefix) or any(p in ("", ".", "..") for p in prefix.split("/")[1:]):
        raise ConfigError(f"{named} has a prefix that is no plain path; expected {_FORM}")
    return _with_parameters(BucketAddress(parts.netloc, prefix), given, named)


_FORM = "s3://bucket/prefix?endpoint=https://host&region=name"


def _with_parameters(plain: BucketAddress, given: Mapping[str, str], named: str) -> BucketAddress:
    endpoint = given.get("endpoint", "").rstrip("/")
    region = given.get("region") or DEFAULT_REGION
    style = given.get("style", "path" if endpoint else "virtual")
    if style not in ("path", "virtual") or given.get("http", "allow") != "allow":
        raise ConfigError(f"{named}: style is path or virtual, and http is allow or not there")
    if not _REGION.fullmatch(region):
        raise ConfigError(f"{named} has no region of letters, digits and '-'")
    any_http = "http" in given
    if endpoint:
        _check_endpoint(endpoint, any_http=any_http, named=named)
    return BucketAddress(plain.bucket, plain.prefix, endpoint, region, style == "virtual", any_http)


def _check_endpoint(endpoint: str, *, any_http: bool, named: str) -> None:
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in ("http", "https") or not host or not plain:
        raise ConfigError(f"{named}: the endpoint is an origin such as https://host:9000")
    if parts.scheme == "http" and not any_http and not _is_loopback(host):
        raise ConfigError(
            f"{named}: plain http sends pictures and signatures in clear; use https, or add "
            "http=allow if the network is trusted"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- which one a data folder has ------------------------------------------------------------------


def chosen(environ: Mapping[str, str], configured: str = "") -> str | None:
    """Return the store that the operator names, in its one spelling; None: nothing is said.

    The environment goes before the configuration; `file:` in either is the data folder.

    Raises:
        ConfigError: it is no address of a store.
    """
    for url, named in ((environ.get(VARIABLE, ""), VARIABLE), (configured, "[storage] url")):
        if url.strip():
            return in_one_spelling(url, named=named)
    return None


def in_one_spelling(url: str, *, named: str) -> str:
    """Return an address as it is noted; `file:` is the data folder.

    Raises:
        ConfigError: it is no address of a store.
    """
    return FOLDER if url.strip() == "file:" else str(parse(url, named=named))


def of_folder(data_dir: Path, url: str | None) -> str:
    """Return where a data folder's pictures are.

    Args:
        data_dir: the data folder.
        url: what the operator names (`chosen`); None: nothing.

    Raises:
        ConfigError: they are elsewhere than the operator says.
    """
    noted = noted_store(data_dir)
    if url is None:
        return noted or FOLDER
    if noted is None and url != FOLDER and _has_pictures(data_dir):
        noted = FOLDER
    if noted not in (None, url):
        raise ConfigError(
            f"the pictures of {data_dir} are in {in_words(noted)}, and {VARIABLE} or [storage] url "
            f"names {in_words(url)}; unset it, or move them: safelight storage move --to ..."
        )
    return url


def noted_store(data_dir: Path) -> str | None:
    """Return the store that a data folder has noted; None: it has noted none."""
    try:
        return (data_dir / NOTE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def note(data_dir: Path, url: str) -> None:
    """Remember durably where a data folder's pictures are."""
    if noted_store(data_dir) == url:
        return
    # A name of its own: several processes may open the folder for the first time.
    draft = data_dir / f"{NOTE}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        file.write(url + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(data_dir / NOTE)
    fsync_folder(data_dir)


def in_words(url: str) -> str:
    """Return an address for people."""
    return url or "the data folder"


def _has_pictures(data_dir: Path) -> bool:
    return any(path.is_dir() and len(path.name) == 2 for path in (data_dir / "blobs").glob("*"))

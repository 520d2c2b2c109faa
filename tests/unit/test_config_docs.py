"""The page and the example file say what the configuration's structs say."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from safelight.config import (
    SECTIONS,
    AccountConfig,
    BatchesConfig,
    BillingConfig,
    ChannelConfig,
    FilesConfig,
    LimitsConfig,
    PoolConfig,
    QueueConfig,
    RetentionConfig,
    ServerConfig,
    StorageConfig,
    VendorBatchesConfig,
    WebhooksConfig,
    load_config,
)
from safelight.config_watch import (
    AlertsConfig,
    LogsConfig,
    MetricsConfig,
    ProberConfig,
    TracesConfig,
)

ROOT = Path(__file__).parents[2]
KEYS = {
    "OPENAI_KEY_A": "sk-a",
    "OPENAI_KEY_B": "sk-b",
    "OPENAI_KEY_STUDIO": "sk-s",
    "METRICS_TOKEN": "token",
    "ALERTS_SECRET": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
}

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "[server]": ServerConfig,
    "[storage]": StorageConfig,
    "[retention]": RetentionConfig,
    "[billing]": BillingConfig,
    "[limits]": LimitsConfig,
    "[queue]": QueueConfig,
    "[webhooks]": WebhooksConfig,
    "[metrics]": MetricsConfig,
    "[logs]": LogsConfig,
    "[alerts]": AlertsConfig,
    "[prober]": ProberConfig,
    "[traces]": TracesConfig,
    "[pool]": PoolConfig,
    "[files]": FilesConfig,
    "[batches]": BatchesConfig,
    "[vendor_batches]": VendorBatchesConfig,
    "[[accounts]]": AccountConfig,
    "[channels.NAME]": ChannelConfig,
}


def documented() -> dict[str, dict[str, str]]:
    """Return, by section of the page, every key of its first table with its default."""
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    sections = {}
    for part in page.split("\n## ")[1:]:
        title = part.split("\n")[0].strip("`")
        body = part.split("\n### ")[0]
        sections[title] = dict(
            re.findall(r"^\| `(\w+)` \| (\S.*?) \| \S.* \|$", body, re.MULTILINE)
        )
    return sections


def in_toml(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None or field.default_factory is dict:
        return "none"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{msgspec.json.encode(default).decode()}`"


def test_every_key_is_documented_with_its_default_and_nothing_else_is() -> None:
    assert documented() == {
        title: {field.name: in_toml(field) for field in msgspec.structs.fields(kind)}
        for title, kind in STRUCTS.items()
    }
    assert len(SECTIONS) == len(STRUCTS)


def test_the_example_loads() -> None:
    config = load_config(ROOT / "safelight.example.toml", Path("data"), environ=KEYS)
    assert [account.name for account in config.accounts] == [
        *("project-a", "project-b", "studio", "basement"),
    ]
    assert config.accounts[1].images_per_minute == 5
    assert tuple(config.channels) == ("gpt-image-2", "gpt-image-2-vip", "banner")
    assert config.warnings == ()


def test_the_example_loads_with_every_commented_setting_switched_on(
    tmp_path: Path,
) -> None:
    text = (ROOT / "safelight.example.toml").read_text(encoding="utf-8")
    switched_on = re.sub(r"^#(?=[a-z])", "", text, flags=re.MULTILINE)
    assert switched_on.count("\n#") < text.count("\n#")
    path = tmp_path / "safelight.toml"
    path.write_text(switched_on, encoding="utf-8")
    config = load_config(path, tmp_path, environ=KEYS)
    assert config.channels["banner"].shutdown_date == "2027-01-31"


def test_the_example_shows_every_key() -> None:
    text = (ROOT / "safelight.example.toml").read_text(encoding="utf-8")
    shown = set(re.findall(r"^#?([a-z_]+) = ", text, re.MULTILINE))
    # Prices stand in the header of a table of their own.
    shown |= {"prices"} if "[channels.gpt-image-2.prices.low]" in text else set()
    assert shown == {name for kind in STRUCTS.values() for name in kind.__struct_fields__}

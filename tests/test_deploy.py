"""The files of deploy/: what they say of the program is true, and what they say together fits.

No container is built here and no cluster is asked: what a runtime makes of them is not tested.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from e2e.balancers import find, with_places
from safelight import serving
from safelight.api import ROUTES
from safelight.cli import build
from safelight.config import Config, load_config
from safelight.db import address as database_address
from safelight.storage import address as store_address

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(KUBERNETES.glob("*.yaml"))
CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def config() -> Config:
    environ = {"OPENAI_KEY_A": "sk-test"}
    return load_config(DEPLOY / "safelight.toml", Path("nowhere"), environ=environ)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def the(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        one for one in documents() if (one["kind"], one["metadata"]["name"]) == (kind, name)
    ]
    return found


def pods() -> Iterator[dict[str, Any]]:
    for one in documents():
        if one["kind"] in ("Deployment", "Job"):
            yield one["spec"]["template"]["spec"]


def containers() -> Iterator[dict[str, Any]]:
    for pod in pods():
        yield from pod["containers"]


def commands_of_ours(compose: dict[str, Any]) -> list[list[str]]:
    ours = [one for one in compose["services"].values() if one["image"] == "safelight:local"]
    words = [one["command"] for one in ours] + [one["args"] for one in containers()]
    last = (DEPLOY / "Containerfile").read_text().rpartition("\nCMD ")[2]
    return [*words, yaml.safe_load(last)]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)?", text.strip()).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, None: 1}[unit]


def settings(name: str, word: str) -> list[str]:
    """Return what stands behind a word at the beginning of lines."""
    text = (DEPLOY / name).read_text()
    return re.findall(rf"^\s*{re.escape(word)}\s+(.+?);?$", text, re.MULTILINE)


# --- what they say of the program ---


def test_every_command_and_option_exists(compose: dict[str, Any]) -> None:
    known: dict[str, Any] = getattr(get_command(build()), "commands", {})
    assert {words[0] for words in commands_of_ours(compose)} == {"serve", "worker", "migrate"}
    for name, *options in commands_of_ours(compose):
        names = {one for parameter in known[name].params for one in parameter.opts}
        # Each of them takes a value.
        assert set(options[::2]) <= names
        assert len(options) % 2 == 0


def test_every_variable_is_one_that_the_program_reads(
    compose: dict[str, Any], config: Config
) -> None:
    known = {database_address.VARIABLE, store_address.VARIABLE, *CREDENTIALS}
    written = tomllib.loads((DEPLOY / "safelight.toml").read_text())
    known |= {account["api_key_env"] for account in written["accounts"]}
    known |= variables_of(get_command(build()))
    used = set(the("Secret", "safelight")["stringData"])
    used |= {one["name"] for container in containers() for one in container["env"]}
    for service in compose["services"].values():
        if service["image"] == "safelight:local":
            used |= set(service["environment"])
    used |= set(re.findall(r"\b(SAFELIGHT_\w+)", (DEPLOY / "Containerfile").read_text()))
    assert used <= known
    assert {database_address.VARIABLE, store_address.VARIABLE, "OPENAI_KEY_A"} <= used
    assert [account.name for account in config.accounts] == ["project-a"]


def variables_of(command: Any) -> set[str]:
    found: set[str] = set()
    for parameter in command.params:
        names = parameter.envvar or []
        found |= {names} if isinstance(names, str) else set(names)
    for inner in getattr(command, "commands", {}).values():
        found |= variables_of(inner)
    return found


def test_the_addresses_of_the_examples_are_taken(compose: dict[str, Any]) -> None:
    environments = [
        the("Secret", "safelight")["stringData"],
        compose["services"]["serve-1"]["environment"],
    ]
    for environ in environments:
        assert database_address.chosen(environ)
        assert (store_address.chosen(environ) or "").startswith("s3://pictures")


def test_the_config_map_is_the_configuration() -> None:
    text = the("ConfigMap", "safelight")["data"]["safelight.toml"]
    assert text == (DEPLOY / "safelight.toml").read_text()


def test_what_is_copied_into_the_container_is_there() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users == ["10001"]
    assert "--require-hashes" in text
    for pod in pods():
        assert pod["securityContext"]["runAsUser"] == int(users[0])


# --- ports and paths ---


def test_ports_and_paths_are_those_of_the_program(compose: dict[str, Any], config: Config) -> None:
    port = config.server.port
    paths = {path for _, path, _ in ROUTES}
    assert settings("haproxy.cfg", "server") == [f"serve-{n} serve-{n}:{port}" for n in (1, 2)]
    assert settings("haproxy.cfg", "option httpchk") == ["GET /readyz"]
    assert [one.split()[0] for one in settings("nginx.conf", "server") if ":" in one] == [
        f"serve-{n}:{port}" for n in (1, 2)
    ]
    assert {"serve-1", "serve-2"} <= set(compose["services"])
    (serve,) = the("Deployment", "safelight-serve")["spec"]["template"]["spec"]["containers"]
    assert [one["containerPort"] for one in serve["ports"]] == [port]
    (worker,) = the("Deployment", "safelight-worker")["spec"]["template"]["spec"]["containers"]
    assert str(worker["ports"][0]["containerPort"]) == worker["args"][-1]
    for container in (serve, worker):
        names = {one["name"] for one in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["path"] in paths & {"/healthz", "/readyz"}
            assert asked["port"] in names
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    service = the("Service", "safelight")["spec"]
    labels = the("Deployment", "safelight-serve")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == labels
    assert service["ports"][0]["targetPort"] == "http"
    assert f"127.0.0.1:{port}/healthz" in (DEPLOY / "Containerfile").read_text()


def test_every_mounted_volume_is_one_of_its_pod() -> None:
    for pod in pods():
        volumes = {one["name"] for one in pod["volumes"]}
        for container in [*pod["initContainers"], *pod["containers"]]:
            assert {one["name"] for one in container["volumeMounts"]} <= volumes
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


# --- times and sizes that must fit together ---


def test_proxies_wait_longer_than_any_call(config: Config) -> None:
    longest_s = max(channel.deadline_s for channel in config.channels.values())
    assert longest_s > config.server.max_wait_s
    ingress = the("Ingress", "safelight")["metadata"]["annotations"]
    waits = [
        *settings("haproxy.cfg", "timeout server"),
        *settings("haproxy.cfg", "timeout client"),
        *settings("nginx.conf", "proxy_read_timeout"),
        ingress["nginx.ingress.kubernetes.io/proxy-read-timeout"],
    ]
    assert len(waits) == 5
    for wait in waits:
        assert seconds(wait) >= longest_s + 30


def test_proxies_take_the_largest_request(config: Config) -> None:
    sizes = sorted(
        int(one.removesuffix("m")) * MIB for one in settings("nginx.conf", "client_max_body_size")
    )
    assert len(sizes) == 2
    assert sizes[0] >= config.server.max_request_bytes
    assert sizes[1] >= config.files.max_bytes
    ingress = the("Ingress", "safelight")["metadata"]["annotations"]
    size = ingress["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) * MIB == sizes[1]


def test_a_leaving_process_is_noticed_and_given_its_time(
    compose: dict[str, Any], config: Config
) -> None:
    (check,) = settings("haproxy.cfg", "default-server")
    found = dict(re.findall(r"(inter|fastinter|fall) (\S+)", check))
    (patience,) = settings("haproxy.cfg", "timeout check")
    noticed_s = seconds(found["inter"]) + (int(found["fall"]) - 1) * seconds(found["fastinter"])
    # One check may be lost on the way.
    assert config.server.drain_notice_s > noticed_s + seconds(patience)
    leaving_s = config.server.drain_notice_s + serving.LAST_CALL_S + config.server.drain_s
    for name in ("serve-1", "serve-2", "worker"):
        assert seconds(compose["services"][name]["stop_grace_period"]) > leaving_s
    serve = the("Deployment", "safelight-serve")["spec"]["template"]["spec"]
    stop = serve["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert serve["terminationGracePeriodSeconds"] > leaving_s + int(stop[1])
    worker = the("Deployment", "safelight-worker")["spec"]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > config.server.drain_s


# --- the balancers' own opinion ---


def test_haproxy_takes_its_file() -> None:
    program = find("haproxy")
    if program is None:
        pytest.skip("haproxy is not installed")
    done = subprocess.run(
        [program, "-c", "-f", str(DEPLOY / "haproxy.cfg")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line]
    # Names of a container network are not known here.
    assert [line for line in warnings if "could not resolve address" not in line] == []


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    program = find("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    places = {f"serve-{n}:8080": "127.0.0.1:9" for n in (1, 2)}
    places["/tmp/nginx.pid"] = str(tmp_path / "nginx.pid")  # noqa: S108 - the file's word
    config = tmp_path / "nginx.conf"
    config.write_text(with_places((DEPLOY / "nginx.conf").read_text(), places))
    done = subprocess.run(
        [program, "-t", "-p", str(tmp_path), "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_on_scaling_names_every_file() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.parent == DEPLOY:
            assert f"(../deploy/{path.name})" in text, path.name
    assert "(../deploy/kubernetes)" in text

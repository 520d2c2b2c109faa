"""`safelight serve` with its pictures in a bucket: ordered by the SDK, fetched, killed, moved."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e.process import GatewayProcess
from s3 import KEYS, S3Server

VIP = "gpt-image-2-vip"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def serving(folder: Path, server: S3Server, bucket: str, config: str = "") -> GatewayProcess:
    environ = {**KEYS, "SAFELIGHT_STORAGE_URL": server.url_of(bucket, "pictures")}
    return GatewayProcess(folder, config, environ=environ)


def client(gateway: GatewayProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key=gateway.first_key, max_retries=0)


def order(gateway: GatewayProcess, prompt: str, **more: Any) -> Any:
    answer = client(gateway).images.generate(model=VIP, prompt=prompt, size="1024x1024", **more)
    assert answer.data is not None
    return answer.data[0]


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        data: bytes = answer.read()
        return data


def ask(gateway: GatewayProcess, method: str, path: str) -> Any:
    request = urllib.request.Request(
        f"{gateway.base_url}{path}",
        method=method,
        headers={"Authorization": f"Bearer {gateway.first_key}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def refusal(gateway: GatewayProcess, *words: str) -> str:
    """Return what a command says that ends with an error."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        gateway.command(*words)
    return str(caught.value.stderr)


def test_a_gateway_on_a_bucket_survives_kill_9(s3_server: S3Server, tmp_path: Path) -> None:
    """SDK orders are stored there, links work over a kill, a deleted picture leaves the bucket."""
    bucket = s3_server.bucket()
    with serving(tmp_path, s3_server, bucket) as gateway:
        first = order(gateway, "a lamp", response_format="url")
        inline = order(gateway, "a table")
        pictures = {hashlib.sha256(fetch(first.url)).hexdigest()}
        pictures.add(hashlib.sha256(base64.b64decode(inline.b64_json)).hexdigest())
        gateway.kill()
        gateway.start()
        assert hashlib.sha256(fetch(first.url)).hexdigest() in pictures
        kept = {key.rpartition("/")[2] for key in s3_server.keys_in(bucket)}
        assert kept == pictures | {"safelight-owner"}
        assert not (gateway.data / "blobs").exists()
        image_id = first.url.rpartition("/i/")[2].partition(".")[0]
        assert ask(gateway, "POST", f"/images/{image_id}/pin")["pinned"] is True
        assert ask(gateway, "DELETE", f"/images/{image_id}")["deleted"] is True
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(first.url)
        with pytest.raises(urllib.error.HTTPError, match="410"):
            ask(gateway, "GET", f"/images/{image_id}")
        assert len(s3_server.keys_in(bucket)) == 2
        assert json.loads(gateway.command("verify", "--json"))["ok"] is True
        assert gateway.stop() == 0


@pytest.mark.campaign
def test_a_link_may_lead_to_the_bucket_for_a_while(s3_server: S3Server, tmp_path: Path) -> None:
    """302 to a signed address that says what it is; conditional requests and HEAD stay here."""
    config = '[storage]\nserve = "redirect"\n'
    with serving(tmp_path, s3_server, s3_server.bucket(), config) as gateway:
        url = order(gateway, "a lamp", response_format="url").url
        opener = urllib.request.build_opener(_Stay())
        with pytest.raises(urllib.error.HTTPError) as moved:
            opener.open(url, timeout=10)
        assert moved.value.code == 302
        assert "X-Amz-Expires=300" in moved.value.headers["location"]
        assert moved.value.headers["cache-control"] == "no-store"
        moved.value.close()
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.url.startswith(s3_server.url)
            assert answer.headers["content-type"] == "image/png"
            whole = answer.read()
        part = urllib.request.Request(url, headers={"Range": "bytes=8-15"})
        with urllib.request.urlopen(part, timeout=10) as answer:
            assert (answer.status, answer.read()) == (206, whole[8:16])
        head = urllib.request.Request(url, method="HEAD")
        with opener.open(head, timeout=10) as answer:
            assert answer.headers["content-length"] == str(len(whole))
            etag = answer.headers["etag"]
        same = urllib.request.Request(url, headers={"If-None-Match": etag})
        with pytest.raises(urllib.error.HTTPError) as unchanged:
            opener.open(same, timeout=10)
        assert unchanged.value.code == 304
        unchanged.value.close()


def test_pictures_move_to_a_bucket_and_back(s3_server: S3Server, tmp_path: Path) -> None:
    """Beside a server they are only copied; afterwards no start uses the old store by mistake."""
    bucket = s3_server.bucket()
    url = s3_server.url_of(bucket)
    gateway = GatewayProcess(tmp_path, environ=KEYS)
    with gateway:
        link = order(gateway, "a lamp", response_format="url").url
        picture = fetch(link)
        assert "serves the data folder" in refusal_json(gateway, "file:", url)["why_not"]
        assert len(s3_server.keys_in(bucket)) == 2
        gateway.stop()
        moved = json.loads(
            gateway.command("storage", "move", "--from", "file:", "--to", url, "--json")
        )
        assert (moved["blobs"], moved["switched"]) == (1, True)
        gateway.start()
        assert fetch(link) == picture
        order(gateway, "a table")
        assert len(s3_server.keys_in(bucket)) == 3
        gateway.stop()
        gateway.environ["SAFELIGHT_STORAGE_URL"] = "file:"
        with pytest.raises(RuntimeError, match="storage move"):
            gateway.start()
        gateway.died()
        assert "other installation" not in refusal(gateway, "verify")
        del gateway.environ["SAFELIGHT_STORAGE_URL"]
        gateway.command("storage", "move", "--from", url, "--to", "file:")
        gateway.start()
        assert fetch(link) == picture
        gateway.stop()


def refusal_json(gateway: GatewayProcess, source: str, target: str) -> Any:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        gateway.command("storage", "move", "--from", source, "--to", target, "--json")
    assert caught.value.returncode == 7
    return json.loads(caught.value.stdout)


@pytest.mark.campaign
def test_a_bucket_belongs_to_one_installation(s3_server: S3Server, tmp_path: Path) -> None:
    """A second one, with books of its own, is refused at its start: it would remove the others'."""
    bucket = s3_server.bucket()
    with serving(tmp_path / "one", s3_server, bucket) as gateway:
        gateway.stop()
    second = serving(tmp_path / "two", s3_server, bucket)
    with pytest.raises(RuntimeError, match="belongs to another installation"):
        second.start()
    second.died()
    missing = serving(tmp_path / "three", s3_server, "no-such-bucket")
    with pytest.raises(RuntimeError, match="There is no such bucket"):
        missing.start()
    missing.died()


@pytest.mark.campaign
def test_a_backup_names_the_bucket_or_brings_its_pictures(
    s3_server: S3Server, tmp_path: Path
) -> None:
    """Without --copy the pictures stay there; a restore of either kind serves the same link."""
    bucket = s3_server.bucket()
    with serving(tmp_path / "old", s3_server, bucket) as gateway:
        link = order(gateway, "a lamp", response_format="url").url
        path, picture = link.partition("/i/")[2], fetch(link)
        gateway.command("backup", str(tmp_path / "named"))
        gateway.command("backup", str(tmp_path / "whole"), "--copy")
        gateway.stop()
    assert not list((tmp_path / "named").glob("blobs/*/*/*"))
    assert len(list((tmp_path / "whole").glob("blobs/*/*/*"))) == 1
    for name, environ in (("named", KEYS), ("whole", {})):
        again = GatewayProcess(tmp_path / f"new-{name}", environ=environ)
        again.command("restore", str(tmp_path / name))
        with again:
            assert fetch(f"{again.url}/i/{path}") == picture
            assert (again.data / "blobs").exists() is (name == "whole")


def test_the_operator_refunds_purges_and_sends_pictures_elsewhere(tmp_path: Path) -> None:
    """Beside a running server; each says what it has done, and what is wrong about a request."""
    with GatewayProcess(tmp_path) as gateway:
        key = gateway.first_key
        assert key is not None
        image = order(gateway, "a lamp", response_format="url")
        job_id = ask(gateway, "GET", "/jobs")["data"][0]["id"]
        refunded = json.loads(gateway.command("refund", job_id, "--reason", "too dark", "--json"))
        assert refunded["amount_micros"] == 30000
        assert refunded["balance"]["posted_micros"] == 10_000_000
        assert "before" in refusal(gateway, "refund", job_id, "--reason", "again")
        assert "no job has the id" in refusal(gateway, "refund", "job_x", "--reason", "x")
        assert "--yes" in refusal(gateway, "images", "purge", "default")
        purged = json.loads(gateway.command("images", "purge", "default", "--yes", "--json"))
        assert (purged["pictures"], purged["removed"], purged["left"]) == (1, 1, 0)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(image.url)
        words = ("storage", "destination", "set", "default", "s3://acme/x?region=eu-west-1")
        assert "VARIABLE" not in gateway.command(*words, "--credentials", "ACME_S3")
        assert "capitals" in refusal(gateway, *words, "--credentials", "AKIA-secret-id")
        listed = json.loads(gateway.command("storage", "destination", "list", "--json"))
        assert listed["destinations"][0]["url"] == "s3://acme/x?region=eu-west-1"
        gateway.command("storage", "destination", "remove", "default")
        assert json.loads(gateway.command("verify", "--json"))["ok"] is True

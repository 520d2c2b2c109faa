"""Refusals that say what to do instead, and the document that generators read."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import msgspec
import pytest

from api.asking import BODY, MODEL, error_of
from api.pictures import png
from safelight.api.openapi import openapi_json

FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("path", "headers", "said"),
    [
        ("/v1/images/edits", {"content-type": "text/plain"}, "multipart/form-data"),
        ("/v1/images/generations", FORM, "/v1/images/edits"),
        ("/v1/chat/completions", FORM, "/v1/images/edits"),
        ("/v1/images/generations", {"content-type": "text/plain"}, "application/json"),
    ],
)
async def test_a_415_names_the_types_that_are_read(
    http: aiohttp.ClientSession, path: str, headers: dict[str, str], said: str
) -> None:
    """And a form is sent to the route that takes forms."""
    async with http.post(path, data=b"x", headers=headers) as answer:
        assert answer.status == 415
        assert said in (await error_of(answer))["message"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/images/generations", "base URL of your client end in /v1"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/models", "one /v1 too many"),
        ("/v1/images/edits/", "slash at the end"),
    ],
)
async def test_a_404_says_what_is_wrong_with_the_base_url(
    http: aiohttp.ClientSession, path: str, said: str
) -> None:
    """The usual slips of a client's configuration."""
    async with http.post(path, json=BODY) as answer:
        assert answer.status == 404
        assert said in (await error_of(answer))["message"]
    async with http.get("/nowhere") as answer:
        assert (await error_of(answer))["message"] == "There is no such path here."


async def test_routes_beside_the_pictures_ids(http: aiohttp.ClientSession) -> None:
    """No route is taken for a picture's id; the retired one says so."""
    for path in ("/v1/images/generations", "/v1/images/edits", "/v1/quote"):
        for method in ("GET", "HEAD", "DELETE"):
            async with http.request(method, path) as answer:
                assert (answer.status, answer.headers["allow"]) == (405, "POST")
    for method in ("GET", "POST"):
        async with http.request(method, "/v1/images/variations") as answer:
            assert answer.status == 404
            assert "/v1/images/edits" in (await error_of(answer))["message"]


@pytest.mark.parametrize("sent", [{"filename": "p.txt"}, {"content_type": "application/json"}])
async def test_a_text_that_was_sent_as_a_file(
    http: aiohttp.ClientSession, sent: dict[str, str]
) -> None:
    """A known field is not called unknown."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("model", MODEL)
    form.add_field("prompt", "blue", **sent)
    form.add_field("image", png(), filename="x.png")
    async with http.post("/v1/images/edits", data=form) as answer:
        assert answer.status == 400
        error = await error_of(answer)
    assert (error["code"], error["param"]) == ("invalid_type", "prompt")
    assert "sent as a file" in error["message"]


def operations() -> list[dict[str, Any]]:
    paths = msgspec.json.decode(openapi_json())["paths"]
    return [operation for methods in paths.values() for operation in methods.values()]


def test_operation_ids_are_names() -> None:
    """Generators make functions of them, so each is a plain name and there once."""
    ids = [operation["operationId"] for operation in operations()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name) for name in ids)
    assert "get_v1_models_id" in ids


def test_the_document_tells_of_ranges_long_heads_and_idempotency() -> None:
    """Statuses that any route, or a picture's, can have; and the headers of an order."""
    assert all("431" in operation["responses"] for operation in operations())
    paths = msgspec.json.decode(openapi_json())["paths"]
    assert {"200", "206", "304", "404", "416"} <= set(paths["/i/{file}"]["get"]["responses"])
    for path in ("/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"):
        described = {(it["name"], it["in"]) for it in paths[path]["post"]["parameters"]}
        assert {("Idempotency-Key", "header"), ("x-request-deadline", "header")} <= described

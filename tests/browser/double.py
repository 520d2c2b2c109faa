"""The sign-in and the operator's routes as a browser sees them, played for tests of the pages.

A double between the browser and a real gateway, in memory: sessions, accounts, series, alerts.
Customers and keys are real, made by the operator's command, and a customer's calls reach the real
gateway with the key that the session stands for. Owns no promise of the server's: those routes
have tests of their own.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request as Asked
from urllib.request import urlopen

from playwright.sync_api import BrowserContext, Request, Route

from e2e.process import GatewayProcess

ADMIN_KEY = "sl_admin_test"
CSRF = "0123456789abcdef"
MINUTE_S = 60


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "code": code, "type": "x", "param": None}}


def money(posted: int = 0) -> dict[str, int]:
    return {
        "posted_micros": posted,
        "held_micros": 0,
        "available_micros": posted,
        "credit_line_micros": 0,
    }


class Double:
    """What one browser context meets at the doors; `install` puts it there.

    Args:
        gateway: the real one behind it.
    """

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.operator = False
        self.key: str | None = None
        self.keys: dict[str, str] = {}
        self.prompts: dict[str, str] = {}
        self.pinned: set[str] = set()
        self.audit: list[dict[str, Any]] = []
        self.unproved: list[str] = []
        """State-changing calls that came without the CSRF header."""
        self.accounts = [
            _account("project-a", "org-1", 20.0, score=0.97, delivered=1284, cost=21400),
            _account("project-b", "org-1", 20.0, score=0.91, delivered=1107, cost=21400),
            _account("azure-sweden", "azure-sweden", 12.5, learnt=True, score=0.64, delivered=386)
            | {"state": "cooling", "reason": "429 from the vendor", "until": int(time.time()) + 21},
            _account("spare", "org-2", None, state="refused", reason="401 from GET /models"),
        ]

    def install(self, context: BrowserContext) -> None:
        """Stand between a context and the gateway."""
        context.route(re.compile(r"/v1/"), self._customers)
        context.route(re.compile(r"/v1/images(\?|$)"), self._json(self._images))
        context.route(re.compile(r"/v1/images/\w+/(un)?pin$"), self._json(self._pin))
        context.route(re.compile(r"/v1/session$"), self._json(self._session))
        context.route(re.compile(r"/admin/v1/"), self._json(self._operators))

    def _customers(self, route: Route, request: Request) -> None:
        if self.key is None:
            route.fulfill(status=401, json=Refused(401, "invalid_api_key", "Sign in.").body)
            return
        if request.method != "GET" and request.headers.get("x-safelight-csrf") != CSRF:
            self.unproved.append(request.url)
        headers = {**request.headers, "authorization": f"Bearer {self.key}"}
        if request.method != "POST" or not re.search(r"/(generations|edits)$", request.url):
            route.continue_(headers=headers)
            return
        answer = route.fetch(headers=headers)
        job = answer.json()
        said = (request.post_data_buffer or b"").decode("utf-8", "replace")
        found = re.search(r'"prompt":"((?:[^"\\]|\\.)*)"|name="prompt"\r\n\r\n(.*?)\r\n', said)
        if found and "id" in job:
            self.prompts[job["id"]] = json.loads(f'"{found[1]}"') if found[1] else found[2]
        route.fulfill(response=answer)

    def _json(self, act: Callable[[Request], Any]) -> Callable[[Route, Request], None]:
        def answer(route: Route, request: Request) -> None:
            try:
                found = act(request)
            except Refused as refused:
                route.fulfill(status=refused.status, json=refused.body)
                return
            if found is None:
                route.fulfill(status=204)
            else:
                route.fulfill(json=found)

        return answer

    # --- the doors ---

    def _session(self, request: Request) -> Any:
        if request.method == "POST":
            key = json.loads(request.post_data or "{}")["key"]
            if key not in self.keys:
                raise Refused(401, "invalid_api_key", "This is no key of this gateway.")
            self.key = key
        elif request.method == "DELETE":
            self.key = None
            return None
        if self.key is None:
            raise Refused(401, "invalid_api_key", "Nobody is signed in.")
        return {"object": "session", "name": self.keys[self.key], "csrf_token": CSRF}

    def _operators(self, request: Request) -> Any:
        path = urlsplit(request.url).path.removeprefix("/admin/v1/")
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.url).query).items()}
        body = request.post_data_json if request.post_data else {}
        if path == "session":
            return self._operator_session(request.method, body)
        if not self.operator:
            raise Refused(401, "invalid_admin_key", "Nobody is signed in.")
        if request.method != "GET" and request.headers.get("x-safelight-csrf") != CSRF:
            self.unproved.append(request.url)
        parts = [unquote(part) for part in path.split("/")]
        if parts == ["events"]:
            return None
        return self._route(request.method, parts, body, query)

    def _operator_session(self, method: str, body: Any) -> Any:
        if method == "POST":
            if body["key"] != ADMIN_KEY:
                raise Refused(401, "invalid_admin_key", "This is no admin key of this gateway.")
            self.operator = True
        elif method == "DELETE":
            self.operator = False
            return None
        if not self.operator:
            raise Refused(401, "invalid_admin_key", "Nobody is signed in.")
        return {"object": "session", "name": "Ada", "role": "owner", "csrf_token": CSRF}

    # --- what an operator does ---

    def _route(  # noqa: C901, PLR0911 - one case for each route
        self, method: str, parts: list[str], body: Any, query: dict[str, str]
    ) -> Any:
        match method, parts:
            case "GET", ["accounts"]:
                return _list(self.accounts)
            case "POST", ["accounts", name, ("pause" | "resume") as act]:
                return self._pause(name, act, body)
            case "GET", ["customers"]:
                search = query.get("search", "").lower()
                return _list([self._customer(n) for n in self._names() if search in n.lower()])
            case "POST", ["customers"]:
                return self._create(body)
            case "GET", ["customers", customer]:
                return self._customer(customer)
            case "POST", ["customers", _, "credit"]:
                return money(body["amount_micros"])
            case "GET", ["customers", customer, "statement"]:
                return self._ask(self._key_of(customer), "/v1/billing/statement")
            case "GET", ["keys"]:
                return _list(
                    [
                        _key(key, name)
                        for key, name in self.keys.items()
                        if name == query["customer"]
                    ]
                )
            case "GET", ["audit"]:
                wanted = query.get("subject")
                return _list([one for one in self.audit if wanted in (None, one["subject"])])
            case "GET", ["series"]:
                return _list(self._series())
            case "GET", ["jobs" | "batches" | "images" as what, *rest]:
                return self._every(what, rest)
            case "GET", [what]:
                return PAGES[what]
        raise Refused(404, "not_found", f"The double has no {'/'.join(parts)}.")

    def _names(self) -> list[str]:
        return list(dict.fromkeys(self.keys.values()))

    def _key_of(self, name: str) -> str:
        return next(key for key, owner in self.keys.items() if owner == name)

    def _ask(self, key: str, path: str) -> Any:
        asked = Asked(self.gateway.url + path, headers={"authorization": f"Bearer {key}"})
        with urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    def _customer(self, name: str) -> dict[str, Any]:
        balance = self._ask(self._key_of(name), "/v1/billing/balance")
        return {
            "id": name,
            "name": name,
            "frozen": None,
            "balance": balance,
            "keys": sum(owner == name for owner in self.keys.values()),
            "created_at": int(time.time()) - 86_400,
        }

    def _create(self, body: Any) -> dict[str, Any]:
        name, micros = body["name"], body["credit_micros"]
        key = self.gateway.key(name, f"{micros // 1_000_000}.{micros % 1_000_000:06d}")
        self.keys[key] = name
        self._note("customer.create", name, f"credit {micros}")
        return {"id": name, "name": name, "key": key}

    def _pause(self, name: str, act: str, body: Any) -> dict[str, Any]:
        account = next(one for one in self.accounts if one["name"] == name)
        account["paused"] = None
        if act == "pause":
            account["paused"] = {"reason": body["reason"], "by": "Ada", "at": int(time.time())}
        self._note(f"account.{act}", name, "")
        return account

    def _note(self, act: str, subject: str, after: str) -> None:
        line = {"act": act, "subject": subject, "after": after, "before": "", "outcome": "done"}
        who = {"actor": "admin:x", "actor_name": "Ada", "address": "127.0.0.1"}
        self.audit.insert(
            0, {"id": f"act_{len(self.audit)}", "at": int(time.time()), **line, **who}
        )

    def _every(self, what: str, rest: list[str]) -> Any:
        if what == "images":
            return _list([picture for key in self.keys for picture in self._pictures(key)])
        if rest:
            for key in self.keys:
                jobs = self._ask(key, "/v1/jobs?limit=100")["data"]
                if any(job["id"] == rest[0] for job in jobs):
                    return self._ask(key, f"/v1/{what}/{'/'.join(rest)}")
        found = [
            {**one, "customer": name}
            for key, name in self.keys.items()
            for one in self._ask(key, f"/v1/{what}?limit=100")["data"]
        ]
        return _list(sorted(found, key=lambda one: -one["created_at"]))

    # --- pictures ---

    def _pictures(self, key: str) -> list[dict[str, Any]]:
        return [
            {
                **job["image"],
                "pinned": job["image"]["id"] in self.pinned,
                "prompt": self.prompts.get(job["id"]),
                "job_id": job["id"],
                "model": job["model"],
                "created_at": job["created_at"],
                "price_micros": job["price_micros"],
            }
            for job in self._ask(key, "/v1/jobs?status=completed&limit=100")["data"]
        ]

    def _images(self, request: Request) -> Any:
        assert self.key is not None
        query = parse_qs(urlsplit(request.url).query)
        words = query.get("search", [""])[0].lower()
        return _list(
            [
                picture
                for picture in self._pictures(self.key)
                if words in (picture["prompt"] or "").lower()
                and ("pinned" not in query or picture["pinned"])
            ]
        )

    def _pin(self, request: Request) -> Any:
        *_, image, act = urlsplit(request.url).path.split("/")
        (self.pinned.add if act == "pin" else self.pinned.discard)(image)
        return {"id": image, "pinned": act == "pin", "kept_until": int(time.time()) + 86_400}

    def _series(self) -> list[dict[str, Any]]:
        """One point a minute: what the real gateway delivered, after a scripted hour."""
        now = int(time.time()) // MINUTE_S * MINUTE_S
        points = [_minute(now - back * MINUTE_S, back) for back in range(59, 0, -1)]
        done = sum(len(self._pictures(key)) for key in self.keys)
        points.append(_minute(now, 0) | {"completed": done, "settled_micros": done * 30_000})
        return points


def _list(data: list[Any]) -> dict[str, Any]:
    last = data[-1].get("id") if data else None
    return {"object": "list", "data": data, "last_id": last, "has_more": False}


def _key(key: str, name: str) -> dict[str, Any]:
    spent = {"period": "day", "limit_micros": 5_000_000, "used_micros": 90_000}
    made = int(time.time()) - 3600
    return {
        "id": key[8:16],
        "name": name,
        "revoked_at": None,
        "created_at": made,
        "budgets": [spent],
    }


def _account(
    name: str,
    group: str,
    limit: float | None,
    *,
    learnt: bool = False,
    state: str = "ready",
    reason: str = "",
    score: float | None = None,
    delivered: int = 0,
    cost: int | None = None,
) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "upstream": "azure" if name.startswith("azure") else "openai",
        "group": group,
        "state": state,
        "reason": reason,
        "until": None,
        "in_flight": 3 if delivered else 0,
        "score": score,
        "success_share": 0.985 if delivered else None,
        "p50_s": 41.0 if delivered else None,
        "delivered": delivered,
        "cost_per_image_micros": cost,
        "limit": {"images_per_minute": limit, "learnt": learnt, "configured": limit and 15.0},
        "paused": None,
    }


def _minute(at: int, back: int) -> dict[str, Any]:
    wave = (back * 7919) % 13
    return {
        "at": at,
        "completed": 22 + wave,
        "failed": 1 if back % 29 == 1 else 0,
        "attempts": 26 + wave,
        "hidden_errors": wave // 5,
        "throttled": wave // 4,
        "generation_p50_s": 38.0 + wave,
        "generation_p95_s": 71.0 + 3 * wave,
        "capacity_per_minute": 52.5,
        "link_success": 1.0 if back % 17 else 0.992,
        "settled_micros": (22 + wave) * 30_000,
        "vendor_cost_micros": (22 + wave) * 21_400,
    }


PAGES: dict[str, Any] = {
    "alerts": _list(
        [
            {
                "id": "alert_1",
                "name": "account_out",
                "subject": "spare",
                "message": "The vendor refuses its key.",
                "raised_at": int(time.time()) - 640,
                "resolved_at": None,
            }
        ]
    ),
    "verification": {"findings": [], "ended_at": int(time.time()) - 900},
    "system": {
        "version": "0.1.0",
        "started_at": int(time.time()) - 90_000,
        "database": {"kind": "sqlite", "bytes": 18_300_000, "commit_ms": 2.1},
        "storage": {"kind": "disk", "free_bytes": 312_000_000_000},
        "processes": 2,
    },
    "sessions": _list(
        [
            {
                "id": "ses_1",
                "name": "Ada",
                "address": "127.0.0.1",
                "created_at": int(time.time()) - 300,
                "seen_at": int(time.time()),
            }
        ]
    ),
}

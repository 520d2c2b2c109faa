"""Which handler answers a path and a method.

Owns the look through the routes, which are starlette's, and nothing of the answer. A handler is
found, not called through the router: each layer of calls around one that waits for a picture is a
frame in memory for as long as the picture takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from safelight.api.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]


class _Endpoint:
    """A handler in the form that starlette takes for a route; it is found here, never called."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("handlers are called with an exchange")


class Routes:
    """Handlers by path and method.

    Args:
        routes: methods, path and handler; the first that fits is taken. Without methods a path
            takes every one.
    """

    def __init__(self, routes: Iterable[tuple[list[str] | None, str, Handler]]) -> None:
        self._routes = [
            Route(path, _Endpoint(handler), methods=methods) for methods, path, handler in routes
        ]

    def find(self, scope: Scope) -> Handler:
        """Return who answers; notes in the scope the `route` and its `path_params`.

        Raises:
            HTTPException: 404, or 405 where the path takes other methods.
        """
        other: Route | None = None
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope["route"], scope["path_params"] = route, found["path_params"]
                handler: Handler = found["endpoint"].handler
                return handler
            if match is Match.PARTIAL:
                other = other or route
        if other is None:
            raise HTTPException(404)
        scope["route"] = other
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(other.methods or ()))})

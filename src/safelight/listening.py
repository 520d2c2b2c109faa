"""The address of a server: taken for one process, or reserved for several that share it.

Owns the sockets before anybody serves on them, and the words for an address that cannot be had.
Several processes share a port by SO_REUSEPORT: the kernel gives each new connection to one of those
that listen (socket(7); on Linux by a hash of the connection). It would give them to strangers of
the same user just as well, so `reserved` first makes sure that nobody is there.
"""

from __future__ import annotations

import socket

from safelight.errors import ConfigError


def taken(host: str, port: int, backlog: int) -> socket.socket:
    """Listen on an address, alone.

    Args:
        host: a name or an address of this machine.
        port: 0 takes a free one.
        backlog: most connections that wait to be accepted.

    Raises:
        ConfigError: it is in use, or none of this machine's.
    """
    listener = _opened(host)
    try:
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    listener.setblocking(False)
    return listener


def reserved(host: str, port: int) -> socket.socket:
    """Take an address that several processes of ours will share.

    Nobody connects to this socket, as it never listens. It keeps the port from others while it is
    open, also in moments when none of our processes listens.

    Args:
        host: a name or an address of this machine.
        port: 0 takes a free one, the same for all.

    Raises:
        ConfigError: it is in use, or none of this machine's.
    """
    with _opened(host) as alone:
        try:
            # Without SO_REUSEPORT: refused where anybody listens, sharing or not.
            alone.bind((host, port))
            return _sharing(host, alone.getsockname()[1])
        except OSError as error:
            raise _refused(host, port, error) from error


def shared(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address that is reserved; it does not listen yet.

    Raises:
        ConfigError: it is in use, or none of this machine's.
    """
    try:
        listener = _sharing(host, port)
    except OSError as error:
        raise _refused(host, port, error) from error
    listener.setblocking(False)
    return listener


def _sharing(host: str, port: int) -> socket.socket:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError(
            "this system cannot share a port between processes; start one, with --workers 1"
        )
    sharer = _opened(host)
    try:
        sharer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharer.bind((host, port))
    except OSError:
        sharer.close()
        raise
    return sharer


def _opened(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return opened


def _refused(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen on {host}:{port} ({error.strerror}); is it in use? "
        "Choose another with --port or [server] port."
    )

"""A wire between a client and Postgres that fails where a test wants it to.

Knows of the protocol only that a transaction's last message holds `; COMMIT`. It pumps bytes in
threads, as the driver waits in threads too.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from enum import Enum
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict

COMMIT = b"; COMMIT"


class Fault(Enum):
    """What happens to a message that holds the words which a fault waits for."""

    SWALLOW = "it never reaches the server; both ends are hung up on"
    LOSE_ANSWER = "the server does what it says; the answer never arrives"
    PARTITION = "it never reaches the server, which notices nothing; the client is hung up on"


class Proxy:
    """A loopback port that leads to a database.

    Args:
        url: the database.
        rng: for what happens at random, with the probability `loss` to each message.
    """

    def __init__(self, url: str, *, rng: random.Random | None = None) -> None:
        parts = conninfo_to_dict(url)
        self._target = (str(parts["host"]), int(str(parts["port"])))
        self._rng = rng
        self.loss = 0.0
        self._lock = threading.Lock()
        self._armed: list[tuple[bytes, Fault]] = []
        self._sockets: set[socket.socket] = set()
        self._muted: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        self.silent = False
        """Whether new connections are taken, but nothing is ever answered."""
        self.faults = 0
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://{parts['user']}@127.0.0.1:{port}/{parts['dbname']}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join()

    def arm(self, fault: Fault, words: bytes = COMMIT) -> None:
        """Let this happen, once, to the next message with these words; several come in turn."""
        with self._lock:
            self._armed.append((words, fault))

    def hang_up(self) -> None:
        """Cut every connection."""
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            self._cut(one)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(client)
            if self.silent:
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                self._cut(client)
                continue
            with self._lock:
                self._sockets.add(server)
            for pump, source, sink in (
                (self._from_client, client, server),
                (self._from_server, server, client),
            ):
                thread = threading.Thread(target=pump, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _from_client(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(1 << 16):
                fault = self._fault_for(data)
                if fault is None:
                    server.sendall(data)
                    continue
                if fault is Fault.LOSE_ANSWER:
                    self._muted.add(server)
                    server.sendall(data)
                    continue  # the client is hung up on when the server has answered
                self._cut(client)
                if fault is Fault.SWALLOW:
                    self._cut(server)
                return
        except OSError:
            pass
        self._cut(server)
        self._cut(client)

    def _from_server(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(1 << 16):
                if server in self._muted:
                    break
                client.sendall(data)
        except OSError:
            # The client is gone. In a partition the server shall not notice.
            return
        self._cut(client)

    def _fault_for(self, data: bytes) -> Fault | None:
        with self._lock:
            for number, (words, fault) in enumerate(self._armed):
                if words in data:
                    del self._armed[number]
                    self.faults += 1
                    return fault
            if self._rng is not None and self._rng.random() < self.loss:
                self.faults += 1
                return self._rng.choice([Fault.SWALLOW, Fault.LOSE_ANSWER])
        return None

    def _cut(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

"""A client in a process of its own: a job a line of JSON in, what came of it a line of JSON out.

It costs as little as a client can, so that the server is what is measured: the head of an answer is read in Python, the
body is thrown away where it arrived (MSG_TRUNC). Whether the bytes are right is for the tests.
"""

import json
import select
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any

_ROOM = bytearray(4 << 20)
"""As much as is thrown away at once; nothing is written to it."""
_SILENCE = 30.0
"""Seconds without a byte after which the server is given up."""


class Connection:
    """One connection, which asks one thing after the other."""

    def __init__(self, port: int, *, copies: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked_at = 0.0
        self._flags = 0 if copies else socket.MSG_TRUNC
        self._head = b""
        self._left = -1

    def ask(self, request: bytes) -> None:
        self._head, self._left = b"", -1
        self.asked_at = time.perf_counter()
        self.socket.sendall(request)

    def read(self) -> bool:
        """Take what is there, and there has to be something. Whether the answer is complete."""
        if self._left < 0:
            self._read_head()
        else:
            got = self.socket.recv_into(_ROOM, min(self._left, len(_ROOM)), self._flags)
            assert got, "an answer was cut"
            self._left -= got
        return self._left == 0

    def _read_head(self) -> None:
        self._head += self.socket.recv(4096)
        head, found, body = self._head.partition(b"\r\n\r\n")
        assert found or b"\n" in head, head
        assert head.startswith(b"HTTP/1.1 20"), self._head
        if found:
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._left = int(length) - len(body)


def run(
    port: int, requests: Sequence[str], *, connections: int, count: int = 0, seconds: float = 0, copies: bool = False
) -> dict[str, Any]:
    """Put the questions in turns on so many connections: `count` in all, or for so many seconds.

    `copies` reads bodies as a usual client does, into its memory.
    """
    questions = cycle([request.encode() for request in requests])
    left = count
    poll, connected = select.epoll(), {}
    latencies: list[float] = []
    began = time.perf_counter()
    for _ in range(connections):
        connection = Connection(port, copies=copies)
        connected[connection.socket.fileno()] = connection
        connection.ask(next(questions))
        left -= 1
        poll.register(connection.socket, select.EPOLLIN)
    while connected:
        ready = poll.poll(_SILENCE)
        assert ready, "the server is silent"
        for fd, _ in ready:
            connection = connected[fd]
            if not connection.read():
                continue
            now = time.perf_counter()
            latencies.append(now - connection.asked_at)
            if left > 0 or now - began < seconds:
                connection.ask(next(questions))
                left -= 1
            else:
                connected.pop(fd).socket.close()
    took = time.perf_counter() - began
    poll.close()
    return {"done": len(latencies), "seconds": took, "median": statistics.median(latencies)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)

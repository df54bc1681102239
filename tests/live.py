"""A real server process, and what a client without libraries asks of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")
USERS = "ann:ann-secret,bob:bob-secret"
SETTINGS = {
    "TORZ_PORT": "0",
    "TORZ_AUTH": USERS,
    "TORZ_ENGINE_ALLOW_PRIVATE": "true",
    "TORZ_ENGINE_LISTEN": "127.0.0.1:0",
    "TORZ_ENGINE_DHT": "false",
    "TORZ_ENGINE_LSD": "false",
    "TORZ_ENGINE_TRANSPORT": "tcp",
    "TORZ_DISK_RESERVE": "1MB",
}


def until(look: Callable[[], T], timeout: float = 30) -> T:
    """What `look` gives as soon as it is something."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"nothing after {timeout} seconds"
        time.sleep(0.05)


class Live:
    """`torz serve` on a data folder."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self._settings = {**SETTINGS, "TORZ_DATA_DIR": str(data), **settings}
        self.url = ""
        self.out = ""
        self.errors = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        left = self.data / "local-credentials"
        left.unlink(missing_ok=True)
        self.process = self.spawn()
        until(lambda: self.process.poll() is not None or (left.exists() and left.read_text().count("\n") == 2))
        assert self.process.poll() is None, self.process.communicate()[1]
        self.url, self.local = left.read_text().splitlines()

    def spawn(self) -> "subprocess.Popen[str]":
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("TORZ_", "STREMTHRU_"))}
        return subprocess.Popen(
            [sys.executable, "-m", "torz", "serve"],
            env={**inherited, **self._settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        """In order, within ten seconds, with no trace and no secret in the log."""
        node = self.node
        self.process.send_signal(signal.SIGTERM)
        self._collect(12)
        assert self.process.returncode == 0, self.errors
        assert not Path(f"/proc/{node}").exists()
        assert "Traceback" not in self.errors, self.errors
        for secret in ("ann-secret", "bob-secret", self.local.partition(":")[2]):
            assert secret not in self.errors + self.out
        assert not re.search(r"/v0/link/[\w-]{20}", self.errors)

    def kill(self) -> None:
        """Without warning; the node goes with its parent."""
        node = self.node
        self.process.kill()
        self._collect(10)
        until(lambda: not _is_running(node), 15)

    def _collect(self, timeout: float) -> None:
        self.out, self.errors = self.process.communicate(timeout=timeout)

    @property
    def node(self) -> int:
        """The process id of the engine's process; waits for it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(until(lambda: children.read_text().split())[0])

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        user: str | None = "ann",
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> HTTPResponse | urllib.error.HTTPError:
        """One request; `target` is a path or a whole URL."""
        sent = dict(headers or {})
        if user:
            sent["X-StremThru-Authorization"] = f"{user}:{user}-secret"
        if isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        url = target if target.startswith("http") else self.url + target
        request = urllib.request.Request(url, data=body, headers=sent, method=method)
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return error
        return answer

    def data_of(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        with self.ask(method, target, body, **more) as answer:
            text = answer.read()
            assert answer.status < 300, text
            return json.loads(text)["data"]

    def error_of(self, method: str, target: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        with self.ask(method, target, body, **more) as answer:
            return answer.status, json.loads(answer.read())["error"]

    def add(self, link: str, user: str = "ann") -> str:
        id: str = self.data_of("POST", "/v0/store/torz", {"link": link}, user=user)["id"]
        return id

    def upload(self, torrent: bytes, user: str = "ann") -> Any:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.torrent"\r\n\r\n%b\r\n--b--\r\n' % torrent
        )
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return self.data_of("POST", "/v0/store/torz", body, user=user, headers=headers)

    def get(self, id: str, user: str = "ann") -> Any:
        return self.data_of("GET", f"/v0/store/torz/{id}", user=user)

    def status(self, id: str, *wanted: str, timeout: float = 40, user: str = "ann") -> Any:
        """The torz when it has come to one of these statuses."""

        def look() -> Any:
            torz = self.get(id, user)
            return torz if torz["status"] in wanted else None

        return until(look, timeout)

    def files(self, id: str) -> Any:
        """Its files, once they are known."""
        return until(lambda: self.get(id)["files"])

    def link(self, file: Any, user: str = "ann") -> str:
        link: str = self.data_of("POST", "/v0/store/torz/link/generate", {"link": file["link"]}, user=user)["link"]
        return link

    def read(self, url: str, start: int | None = None, end: int | None = None) -> bytes:
        headers = {} if start is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        with self.ask("GET", url, user=None, headers=headers) as answer:
            assert answer.status == (200 if start is None else 206)
            return answer.read()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False

"""What the node tells of its torrents, once a second and only what changed."""

from collections.abc import Iterable
from typing import Any

import libtorrent as lt
import msgspec

from torz.bus.socket import NodeServer
from torz.domain.torz import TorzStatus
from torz.node.held import Held
from torz.ports.node import Event, Progress, Vitals

_FINAL = (TorzStatus.DOWNLOADED, TorzStatus.FAILED, TorzStatus.INVALID)
"""Told by the rows alone."""


class Publisher:
    def __init__(self, server: NodeServer) -> None:
        self._server = server
        self._news: dict[bytes, Progress] = {}
        self._said: dict[bytes, Progress] = {}
        self._rates: dict[bytes, tuple[int, int, int]] = {}
        self._missing: dict[bytes, int] = {}
        self._vitals = Vitals(f"libtorrent {lt.version}")
        self._dht_nodes = 0
        self.problem = ""
        """What is wrong with the node, in a sentence."""

    def snapshot(self, held: Iterable[Held]) -> list[Event]:
        """All there is to tell to somebody who comes now."""
        told: list[Event] = [one.said for one in held if one.said and one.status not in _FINAL]
        return [*told, self._vitals]

    def update(self, held: Held, status: Any) -> None:
        """The engine says how a torrent gets on."""
        self._rates[held.hash] = (status.download_payload_rate, status.upload_payload_rate, status.num_peers)
        if held.complete or held.status in _FINAL:
            return
        if held.torrent is None:
            held.message = "Waiting for metadata: " + _peers(status.num_peers)
            progress = Progress(held.hash, held.status, held.message, peers=status.num_peers, seeds=status.num_seeds)
        else:
            total = held.torrent.size
            # What the engine calls done holds blocks too whose piece has not been verified.
            self._missing[held.hash] = max(0, total - status.total_done)
            done = _verified(held, status.num_pieces, total)
            message = held.message
            if not message and not status.num_peers and held.status is TorzStatus.DOWNLOADING:
                message = "Waiting for peers: none has been found yet."
            progress = Progress(
                held.hash,
                held.status,
                message,
                done,
                total,
                status.download_payload_rate,
                status.upload_payload_rate,
                status.num_peers,
                status.num_seeds,
            )
        self._note(held, progress)

    def tell(self, held: Held) -> None:
        """Its status changed; say so at once, with the numbers last heard."""
        if held.status in _FINAL:
            held.said = None
            self._news.pop(held.hash, None)
            self._said.pop(held.hash, None)
            return
        total = held.torrent.size if held.torrent else None
        last = held.said or Progress(held.hash, held.status)
        told = msgspec.structs.replace(last, status=held.status, message=held.message, total=total)
        held.said = self._said[held.hash] = told
        self._news.pop(held.hash, None)
        self._server.broadcast([told])

    def missing_bytes(self, held: Held) -> int:
        """What is still to be downloaded, as last heard, in bytes."""
        return self._missing.get(held.hash, held.torrent.size if held.torrent else 0)

    def forget(self, hash: bytes) -> None:
        for kept in (self._news, self._said, self._rates, self._missing):
            kept.pop(hash, None)

    def publish(self) -> None:
        if self._news:
            self._server.broadcast(list(self._news.values()))
            self._said |= self._news
            self._news = {}

    def stats(self, values: dict[str, int]) -> None:
        self._dht_nodes = values.get("dht.dht_nodes", 0)

    def vitals(self, port: int, free: int, torrents: int) -> None:
        rates = self._rates.values()
        vitals = Vitals(
            engine=self._vitals.engine,
            port=port,
            problem=self.problem,
            torrents=torrents,
            peers=sum(peers for _, _, peers in rates),
            dht_nodes=self._dht_nodes,
            download_rate=sum(down for down, _, _ in rates),
            upload_rate=sum(up for _, up, _ in rates),
            disk_free=free,
        )
        if vitals != self._vitals:
            self._vitals = vitals
            self._server.broadcast([vitals])

    def _note(self, held: Held, progress: Progress) -> None:
        if self._said.get(held.hash) != progress:
            held.said = self._news[held.hash] = progress


def _verified(held: Held, pieces: int, total: int) -> int:
    """Bytes, as far as the number of pieces tells; the last one may be short, and some may be padding."""
    if pieces >= held.count:
        return total
    return min(pieces * held.layout.piece_length, total) if held.layout else 0


def _peers(count: int) -> str:
    """Why metadata has not come."""
    if not count:
        return "no peer has been found yet."
    return f"{count} peer{'s have' if count > 1 else ' has'} not sent it yet."

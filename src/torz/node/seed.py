"""A seed of its own, for the demo and the benchmarks: `python -m torz.node.seed FOLDER...` until its input ends.

It makes a torrent of every folder or file, seeds them on loopback, and prints one JSON line about each.
"""

import argparse
import json
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import libtorrent as lt


def main() -> int:
    parser = argparse.ArgumentParser("torz.node.seed")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--piece-length", type=int, default=256 << 10)
    parser.add_argument("--tracker", default="")
    parser.add_argument("--upload-limit", type=int, default=0, help="bytes per second, for each torrent")
    given = parser.parse_args()
    session = lt.session(_params())
    for path in given.paths:
        metainfo = make_torrent(path, given.piece_length, given.tracker)
        params = lt.load_torrent_buffer(metainfo)
        params.save_path = str(path.parent)
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        params.flags |= lt.torrent_flags.seed_mode
        handle = session.add_torrent(params)
        handle.set_upload_limit(given.upload_limit)
        said = {"hash": str(params.info_hashes.v1), "torrent": b64encode(metainfo).decode(), "port": _port(session)}
        print(json.dumps(said), flush=True)
    sys.stdin.read()
    session.pause()
    time.sleep(0.5)  # the tracker hears of it
    return 0


def make_torrent(path: Path, piece_length: int, tracker: str) -> bytes:
    """A v1 torrent of a file or a folder."""
    files = lt.list_files(str(path))
    made = lt.create_torrent(files, piece_length, lt.create_torrent.v1_only)
    if tracker:
        made.add_tracker(tracker)
    lt.set_piece_hashes(made, str(path.parent))
    return bytes(lt.bencode(made.generate()))


def _params() -> lt.session_params:
    params = lt.session_params()
    settings = {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "dht_bootstrap_nodes": "",
        "webtorrent_stun_server": "",
        "allow_multiple_connections_per_ip": True,
        "tick_interval": 100,
        "stop_tracker_timeout": 1,
    }
    params.settings = cast("Any", settings)
    return params


def _port(session: lt.session) -> int:
    deadline = time.monotonic() + 5
    while not session.listen_port() and time.monotonic() < deadline:
        time.sleep(0.01)
    return int(session.listen_port())


if __name__ == "__main__":
    sys.exit(main())

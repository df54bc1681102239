"""The libtorrent session: its settings, its alerts, and torrents going in and out. Facts: libtorrent 2.1's manual."""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import libtorrent as lt

from torz import __version__
from torz.config import Config
from torz.domain.magnet import Magnet
from torz.node.guard import everybody_counts, private_filter

log = logging.getLogger("torz.engine")

_CATEGORY = lt.alert.category_t
_MASK = int(
    _CATEGORY.error_notification
    | _CATEGORY.status_notification
    | _CATEGORY.storage_notification
    | _CATEGORY.piece_progress_notification
)
STOP_PATIENCE = 1
"""Seconds that trackers get to hear that we stop."""


class Engine:
    """One session. `hear` gets every alert at once, and must keep nothing of it."""

    def __init__(self, config: Config, hear: Callable[[Any], None]) -> None:
        self._hear = hear
        self._session = lt.session(_session_params(config))
        if not config.engine_allow_private:
            self._session.set_ip_filter(private_filter())
        self._session.set_peer_class_filter(everybody_counts())
        self._has_trackers = False
        self._paused_at = 0.0
        self._reader, self._writer = os.pipe()

    def start(self) -> None:
        """Hear alerts from now on, in the running loop."""
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        asyncio.get_running_loop().add_reader(self._reader, self._on_readable)
        self._session.set_alert_fd(self._writer)
        self._on_readable()

    def pause(self) -> None:
        """Stop all transfers, and tell the trackers."""
        self._session.pause()
        self._paused_at = time.monotonic()

    async def close(self) -> None:
        """Let go, after `pause`. Nothing may use a handle after this."""
        if self._has_trackers:  # the destructor would wait for them with the GIL held
            await asyncio.sleep(max(0, self._paused_at + STOP_PATIENCE - time.monotonic()))
        self._session.set_alert_fd(-1)
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        os.close(self._writer)
        del self._session

    def _on_readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        for alert in self._session.pop_alerts():
            try:
                self._hear(alert)
            except Exception:  # one torrent's trouble is not the others', and the next alert must be heard
                log.exception("an alert could not be handled: %s", type(alert).__name__)

    def add(self, params: lt.add_torrent_params) -> None:
        """Asynchronous; add_torrent_alert tells how it went."""
        self._has_trackers |= bool(params.trackers)
        self._session.async_add_torrent(params)

    def remove(self, handle: lt.torrent_handle) -> None:
        """Asynchronous; torrent_removed_alert tells that its files are closed."""
        with contextlib.suppress(RuntimeError):
            self._session.remove_torrent(handle)

    def ask_updates(self) -> None:
        """state_update_alert brings those that changed."""
        self._session.post_torrent_updates()

    def ask_stats(self) -> None:
        self._session.post_session_stats()

    def find(self, hash: bytes) -> lt.torrent_handle | None:
        """A torrent that is in the session, by its 20 bytes. Waits for the engine."""
        handle = self._session.find_torrent(lt.sha1_hash(hash))
        return handle if handle.is_valid() else None


def _session_params(config: Config) -> lt.session_params:
    params = lt.session_params()
    params.settings = cast("Any", _settings(config))
    return params


def _settings(config: Config) -> dict[str, Any]:
    private = config.engine_allow_private
    settings: dict[str, Any] = {
        "listen_interfaces": config.engine_listen,
        "user_agent": f"torz/{__version__}",
        "enable_dht": config.engine_dht,
        "enable_lsd": config.engine_lsd,
        "enable_upnp": config.engine_portmap,
        "enable_natpmp": config.engine_portmap,
        "webtorrent_stun_server": "",  # the default is a third party's
        "alert_mask": _MASK,
        "alert_queue_size": 20_000,
        "tick_interval": 100,
        "connections_limit": config.engine_connections or 500,
        "connection_speed": 50,
        "max_queued_disk_bytes": 64 << 20,
        "active_downloads": -1,
        "active_seeds": -1,
        "active_limit": -1,
        "whole_pieces_threshold": 0,  # so that several peers share the piece a reader waits for
        "request_queue_time": 1,
        "close_redundant_connections": False,  # a reader may want more in a moment
        "max_metadata_size": 10 << 20,
        "stop_tracker_timeout": STOP_PATIENCE,
        "download_rate_limit": config.engine_download_limit,
        "upload_rate_limit": config.engine_upload_limit,
        "enable_outgoing_utp": config.engine_transport != "tcp",
        "enable_incoming_utp": config.engine_transport != "tcp",
        "enable_outgoing_tcp": config.engine_transport != "utp",
        "enable_incoming_tcp": config.engine_transport != "utp",
        "allow_multiple_connections_per_ip": private,
        "announce_to_all_trackers": True,
        "announce_to_all_tiers": True,
    }
    if not config.engine_dht:
        settings["dht_bootstrap_nodes"] = ""
    if private:  # nodes of one small network, maybe of one address
        settings |= dict.fromkeys(_DHT_OF_STRANGERS, False)
    return settings


_DHT_OF_STRANGERS = (
    "dht_restrict_routing_ips",
    "dht_restrict_search_ips",
    "dht_ignore_dark_internet",
    "dht_prefer_verified_node_ids",
    "dht_enforce_node_id",
)
"""What keeps one address from posing as many nodes."""


def from_magnet(magnet: Magnet) -> lt.add_torrent_params:
    """What a magnet says, with nothing wanted until its metadata was looked at. Raises RuntimeError."""
    params = lt.parse_magnet_uri(str(magnet))
    params.flags |= lt.torrent_flags.default_dont_download
    return params


def prepare(params: lt.add_torrent_params, folder: Path, magnet: Magnet, *, pex: bool) -> lt.add_torrent_params:
    """Where it goes, whom it asks, and that we alone start and stop it.

    What it renames stays: files of one name, told apart by the engine when it read the .torrent.
    """
    params.save_path = str(folder)
    params.trackers = list(magnet.trackers)
    params.tracker_tiers = [0] * len(magnet.trackers)
    params.url_seeds = list(magnet.web_seeds)
    params.http_seeds = []
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    params.flags |= lt.torrent_flags.update_subscribe | lt.torrent_flags.duplicate_is_error
    if params.ti is not None:
        params.file_priorities = file_priorities(params.ti)
    if not pex:
        params.flags |= lt.torrent_flags.disable_pex
    return params


def renamed_files(handle: lt.torrent_handle, ti: lt.torrent_info) -> dict[int, str]:
    """The names that the engine gave to files of one name. Waits for the engine; raises RuntimeError."""
    return dict(handle.get_renamed_files().export_filenames(ti.layout()))


def file_priorities(ti: lt.torrent_info) -> list[int]:
    """Every file, except symlinks: those that are wanted are made on disk, whatever they point at."""
    storage = ti.layout()
    return [
        0 if storage.file_flags(index) & lt.file_storage.flag_symlink else 4 for index in range(storage.num_files())
    ]


def why(exc: Exception) -> str:
    """What the engine says of a failure, without its category and number."""
    return re.sub(r"\s*\[\w+:\d+\]$", "", str(exc))

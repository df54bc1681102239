"""The node: makes the engine match the rows, writes down what becomes of them, and tells who listens."""

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libtorrent as lt

from torz.bus.socket import NodeServer
from torz.config import Config
from torz.domain.errors import InvalidMagnet, InvalidTorrent, Unavailable
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.domain.videohash import EDGE, is_video, video_hash
from torz.node import engine
from torz.node.engine import Engine
from torz.node.files import DataFolder, edges
from torz.node.held import Held
from torz.node.layout import lay_out
from torz.node.publisher import Publisher
from torz.node.readers import Readers
from torz.ports.node import Changed, Command, Lost, Nudge, PieceMap, Read, Unread, Unwatch, Watch
from torz.ports.repo import Desired, NodeRepo

log = logging.getLogger("torz.node")

_SAFETY_NET = 5.0
"""Seconds between looks at the rows, should a nudge get lost."""
_SLICE = 200
"""Torrents that are added before others get their turn."""
_SAVE_EVERY = 30.0
"""Seconds between saves of a running download's resume data."""
_DISK_LOOK = 2.0
"""Seconds between looks at the free space."""
_LET_GO = 10.0
"""Seconds that the engine gets to close a removed torrent's files, and to save before a stop."""
_SMALLEST_VIDEO = 128 << 10
"""Bytes below which a video has no hash worth knowing."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_WRITE = (*_NO_SPACE, errno.EROFS, errno.EACCES)
_MISSING = "Its files are missing or cut short on disk. Remove it and add it again to download it anew."
_RECHECK = "Checking what is on disk after an unclean stop."
_STATES = lt.torrent_status.states


class Node:
    """Everything happens in one loop; whatever may take long is in threads or in the engine."""

    def __init__(self, config: Config, repo: NodeRepo, data: DataFolder, free: Callable[[], int] | None = None) -> None:
        """`free` tells the bytes left on the disk; a test may say something else than the disk does."""
        self._config = config
        self._repo = repo
        self._data = data
        self._free = free or data.free
        self._held: dict[bytes, Held] = {}
        self._by_handle: dict[Any, Held] = {}
        self._resting: dict[bytes, Desired] = {}
        """Complete and not loaded: served from disk by those who serve."""
        self._revision = 0
        self._nudge = asyncio.Event()
        self._threads = ThreadPoolExecutor(4, "torz-node-disk")
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving: dict[bytes, asyncio.Future[None]] = {}
        self._engine = Engine(config, self._hear)
        self._stopping = False

    async def run(self, server: NodeServer, publisher: Publisher, readers: Readers, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then save everything and let go."""
        self._server, self._publisher, self._readers = server, publisher, readers
        clean, same_boot = self._data.begin()
        self._is_clean, self._same_boot = clean, same_boot
        self._engine.start()
        await server.start()
        loops = [self._reconcile_for_ever(), self._tick_for_ever(), self._watch_disk_for_ever()]
        running = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.wait([*running, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
            for one in running:
                if one.done():
                    one.result()  # a loop ends only by failing; then so do we, and are started again
        finally:
            await self._end([*running, *self._tasks])

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        await self._server.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._readers.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO):
                await asyncio.gather(*(self._save(held) for held in self._held.values() if held.torrent))
                self._data.end()
        self._by_handle.clear()
        self._held.clear()
        await self._engine.stop()
        self._threads.shutdown()

    def held(self) -> list[Held]:
        return list(self._held.values())

    # The rows → the engine

    async def _reconcile_for_ever(self) -> None:
        while True:
            self._nudge.clear()
            await self._reconcile()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAFETY_NET):
                    await self._nudge.wait()

    async def _reconcile(self) -> None:
        while rows := await self._repo.desired(self._revision):
            rest: list[Desired] = []
            for number, row in enumerate(rows):
                if not row.wanted:
                    await self._remove(row)
                elif row.complete and row.hash not in self._held and self._may_rest(row):
                    rest.append(row)
                else:
                    await self._want(row)
                self._revision = max(self._revision, row.revision)
                if number % _SLICE == _SLICE - 1:
                    await asyncio.sleep(0)
            self._resting |= {row.hash: row for row in rest}
            await self._seed_some(rest)

    def _may_rest(self, row: Desired) -> bool:
        """Whether what was complete still is, without looking at every byte."""
        return row.synced or self._same_boot or self._is_clean

    async def _seed_some(self, rows: list[Desired]) -> None:
        """Seed what was completed last, as many as the settings allow."""
        room = self._config.engine_seeds - sum(held.complete for held in self._held.values())
        for row in sorted(rows, key=lambda row: -row.used_at)[: max(0, room)]:
            await self._load(row)
            await asyncio.sleep(0)

    async def _want(self, row: Desired) -> None:
        held = self._held.get(row.hash)
        if held is None:
            self._resting.pop(row.hash, None)
            if row.status not in (TorzStatus.FAILED, TorzStatus.INVALID):
                await self._load(row)
        elif held.is_loaded:
            self._merge(held, Magnet.parse(row.magnet))

    def _merge(self, held: Held, magnet: Magnet) -> None:
        """Ask those too whom somebody else named."""
        for tracker in magnet.trackers:
            if tracker not in held.magnet.trackers:
                held.handle.add_tracker({"url": tracker, "tier": 0})
        for seed in magnet.web_seeds:
            if seed not in held.magnet.web_seeds:
                held.handle.add_url_seed(seed)
        for peer in magnet.peers:
            if peer not in held.magnet.peers:
                host, _, port = peer.rpartition(":")
                with contextlib.suppress(RuntimeError):  # a name instead of an address
                    held.handle.connect_peer((host.strip("[]"), int(port)))
        held.magnet = magnet

    async def _load(self, row: Desired) -> None:
        """Put it into the engine, with what is known of it."""
        try:
            held = Held(row.hash, Magnet.parse(row.magnet))
        except InvalidMagnet:
            await self._settle_row(row.hash, TorzStatus.INVALID, "Its magnet cannot be read.")
            return
        held.complete = row.complete and self._may_rest(row)
        metainfo = await self._repo.metainfo(row.hash) if row.has_metainfo else None
        try:
            params = self._params(held, metainfo)
        except (InvalidTorrent, RuntimeError) as exc:
            reason = exc.hint if isinstance(exc, InvalidTorrent) else f"The engine refuses it: {engine.why(exc)}."
            await self._settle_row(row.hash, TorzStatus.INVALID, reason)
            return
        if held.layout:
            await self._repo.lay_out(held.hash, held.layout)
            layout = held.layout
            if held.complete and await self._in_thread(lambda: self._data.missing(held.hash, layout)):
                await self._settle_row(row.hash, TorzStatus.FAILED, _MISSING)
                return
        if row.complete and not held.complete:
            await self._repo.set_status(row.hash, TorzStatus.PROCESSING, _RECHECK)
            self._tell_changed(held)
        self._held[row.hash] = held
        self._engine.add(params)

    def _params(self, held: Held, metainfo: bytes | None) -> lt.add_torrent_params:
        folder = self._data.folder(held.hash)
        if metainfo is None:
            params = engine.from_magnet(held.magnet)
        else:
            params = self._known_params(held, metainfo)
            folder.mkdir(parents=True, exist_ok=True)
        return engine.prepare(params, folder, held.magnet, pex=self._config.engine_pex)

    def _known_params(self, held: Held, metainfo: bytes) -> lt.add_torrent_params:
        """From the .torrent, and from resume data where the last stop was in order."""
        params = lt.load_torrent_buffer(metainfo)
        assert params.ti
        self._know(held, Torrent.parse(metainfo), params.ti)
        if held.complete:
            params.flags |= lt.torrent_flags.seed_mode  # pieces are hashed before they first leave
        elif self._is_clean:
            for data in self._data.read_resume(held.hash):
                with contextlib.suppress(RuntimeError):
                    resumed = lt.read_resume_data(data)
                    if resumed.info_hashes == params.info_hashes:
                        params.have_pieces = resumed.have_pieces
                        params.verified_pieces = resumed.verified_pieces
                        params.unfinished_pieces = resumed.unfinished_pieces
                        params.peers = [*params.peers, *resumed.peers]
                        break
        return params

    def _know(self, held: Held, torrent: Torrent, ti: lt.torrent_info) -> None:
        """Raises InvalidTorrent when the engine would lay its files out differently than we read them."""
        held.layout = lay_out(torrent, ti)
        held.torrent = torrent
        held.count = ti.num_pieces()
        if torrent.private:
            # Other people's trackers are none of a private swarm's business.
            own = torrent.magnet
            held.magnet = Magnet(
                held.magnet.hash, held.magnet.v2, held.magnet.name, own.trackers or held.magnet.trackers
            )

    async def _remove(self, row: Desired) -> None:
        """Take it out with its data, and the row last, so that a crash in between is made good."""
        held = self._held.pop(row.hash, None)
        self._resting.pop(row.hash, None)
        if held:
            if held.finishing:
                held.finishing.cancel()
            self._readers.drop(held)
            if held.is_loaded:
                self._engine.remove(held.handle)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LET_GO):
                        await held.removed.wait()
                self._by_handle.pop(held.handle, None)
        self._publisher.forget(row.hash)
        self._server.broadcast([Lost(row.hash)])
        try:
            await self._in_thread(lambda: self._data.forget(row.hash))
        except OSError as exc:
            log.error("the data of %s cannot be removed: %s", row.hash.hex(), exc.strerror)
        if not await self._repo.forget(row.hash, row.revision):
            await self._repo.set_status(row.hash, TorzStatus.QUEUED)  # somebody wants it again, from the beginning
        self._server.broadcast([Changed(row.hash)])

    # The engine → the rows

    def _hear(self, alert: Any) -> None:
        handler = _HANDLERS.get(type(alert))
        if handler is not None:
            handler(self, alert)

    def _of(self, alert: Any) -> Held | None:
        return self._by_handle.get(alert.handle)

    def _on_added(self, alert: Any) -> None:
        held = self._held.get(_key(alert.params.info_hashes))
        if alert.error.value():
            if held:
                self._start(self._settle(held, TorzStatus.FAILED, f"The engine refuses it: {alert.error.message()}."))
            return
        if held is None:  # removed meanwhile
            self._engine.remove(alert.handle)
            return
        held.handle = alert.handle
        self._by_handle[alert.handle] = held
        if not held.torrent:
            held.message = "Waiting for metadata: no peer has sent it yet."
        for peer in held.magnet.peers:
            host, _, port = peer.rpartition(":")
            with contextlib.suppress(RuntimeError):
                alert.handle.connect_peer((host.strip("[]"), int(port)))

    def _on_metadata(self, alert: Any) -> None:
        held = self._of(alert)
        if held and held.torrent is None:
            self._start(
                self._learn(held, bytes(alert.handle.torrent_file().info_section()), alert.handle.torrent_file())
            )

    async def _learn(self, held: Held, info: bytes, ti: lt.torrent_info) -> None:
        """Look at metadata from strangers before a byte of it is wanted."""
        try:
            torrent = await self._in_thread(lambda: Torrent.from_info(info, held.magnet.trackers))
            self._know(held, torrent, ti)
        except InvalidTorrent as exc:
            held.torrent = None
            await self._settle(held, TorzStatus.INVALID, exc.hint or exc.message)
            return
        assert held.layout
        folder = self._data.folder(held.hash)
        await self._in_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
        await self._repo.learn(torrent, held.hash)
        await self._repo.lay_out(held.hash, held.layout)
        if held.hash not in self._held:
            return
        held.message = ""
        held.handle.unset_flags(lt.torrent_flags.default_dont_download)
        held.handle.prioritize_files([4] * ti.num_files())
        self._tell_changed(held)
        self._request_save(held)

    def _on_piece(self, alert: Any) -> None:
        held = self._of(alert)
        if held and held.watchers:
            self._readers.passed(held, alert.piece_index)

    def _on_finished(self, alert: Any) -> None:
        held = self._of(alert)
        if held and held.torrent and not held.complete and not held.finishing:
            held.finishing = self._start(self._finish(held))

    async def _finish(self, held: Held) -> None:
        """From the last piece to a torrent that may be served from its files."""
        try:
            if not await self._in_thread(lambda: held.handle.status(0).num_pieces == held.count):
                self._readers.nothing_wanted(held)  # only what readers asked for is here
                return
            held.status = TorzStatus.UPLOADING
            held.message = "Everything is here; it is being written to the disk."
            self._publisher.tell(held)
            await self._readers.flush(held)
            assert held.layout
            layout = held.layout
            if await self._in_thread(lambda: self._data.missing(held.hash, layout)):
                held.status = TorzStatus.PROCESSING
                held.handle.force_recheck()
                return
            for index, value in (await self._in_thread(lambda: self._video_hashes(held))).items():
                await self._repo.set_video_hash(held.hash, index, value)
            await self._repo.complete(held.hash, int(time.time()))
            held.complete = True
            held.status, held.message = TorzStatus.DOWNLOADED, ""
            self._tell_changed(held)
            self._readers.completed(held)
            self._request_save(held)
            await self._in_thread(lambda: self._data.sync(held.hash, layout))
            await self._repo.synced(held.hash)
        except (OSError, RuntimeError) as exc:  # removed, or the disk fails; the engine will say more
            log.warning("%s could not be finished: %s", held.name, exc)
        finally:
            held.finishing = None

    def _video_hashes(self, held: Held) -> dict[int, str]:
        assert held.layout
        folder = self._data.folder(held.hash)
        return {
            place.index: video_hash(place.size, *edges(folder, place.path, place.size, EDGE))
            for place in held.layout.places
            if place.size >= _SMALLEST_VIDEO and is_video(place.path)
        }

    def _on_state(self, alert: Any) -> None:
        """A complete torrent that is checked again is not complete until the check says so."""
        held = self._of(alert)
        if not held:
            return
        if alert.state == _STATES.checking_files:
            if held.complete:
                held.complete = False
                self._readers.drop(held)
                self._server.broadcast([Lost(held.hash)])
            held.status = TorzStatus.PROCESSING
            self._start(self._set_status(held, TorzStatus.PROCESSING, _RECHECK))
        elif alert.state == _STATES.downloading and held.status is not TorzStatus.DOWNLOADING:
            self._start(self._set_status(held, TorzStatus.DOWNLOADING, ""))

    def _on_removed(self, alert: Any) -> None:
        held = self._by_handle.get(alert.handle)
        if held is None:
            key = _key(alert.info_hashes)
            held = next((one for one in self._by_handle.values() if one.hash == key), None)
        if held:
            held.removed.set()

    def _on_file_error(self, alert: Any) -> None:
        held = self._of(alert)
        if not held or held.stalled:
            return
        number = alert.error.value()
        if number in _NO_WRITE:
            what = "The disk is full" if number in _NO_SPACE else "The data folder cannot be written"
            self._stall(held, f"{what}; the download goes on by itself when that is mended.")
        elif held.complete:
            self._start(self._settle(held, TorzStatus.FAILED, _MISSING))
        else:
            reason = f"The disk failed: {alert.error.message()}."
            held.stalled = reason
            self._start(self._settle(held, TorzStatus.FAILED, reason))

    def _on_saved(self, alert: Any) -> None:
        held = self._of(alert)
        future = self._saving.pop(held.hash, None) if held else None
        if held:
            data = bytes(lt.write_resume_data_buf(alert.params))
            hash = held.hash
            self._start(self._write_resume(hash, data, future))

    async def _write_resume(self, hash: bytes, data: bytes, future: "asyncio.Future[None] | None") -> None:
        try:
            await self._in_thread(lambda: self._data.write_resume(hash, data))
        except OSError as exc:
            log.warning("the resume data of %s cannot be written: %s", hash.hex(), exc.strerror)
        finally:
            if future and not future.done():
                future.set_result(None)

    def _on_not_saved(self, alert: Any) -> None:
        held = self._of(alert)
        future = self._saving.pop(held.hash, None) if held else None
        if future and not future.done():
            future.set_result(None)

    def _on_flushed(self, alert: Any) -> None:
        held = self._of(alert)
        if held:
            self._readers.flushed(held)

    def _on_update(self, alert: Any) -> None:
        for status in alert.status:
            held = self._by_handle.get(status.handle)
            if held:
                self._publisher.update(held, status)

    def _on_stats(self, alert: Any) -> None:
        self._publisher.stats(alert.values)

    def _on_listen_failed(self, alert: Any) -> None:
        self._publisher.problem = (
            f"Peers cannot reach the engine: {alert.error.message()}. Set TORZ_ENGINE_LISTEN to a free port."
        )

    def _on_listening(self, alert: Any) -> None:
        self._publisher.problem = ""

    def _on_dropped(self, alert: Any) -> None:
        log.warning("the engine said more than could be heard; looking at everything again")
        for held in self._by_handle.values():
            if held.watchers:
                self._readers.resync(held)
            if held.torrent and not held.complete and not held.finishing:
                held.finishing = self._start(self._finish(held))

    # What happens by the clock

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(0.25)
            ticks += 1
            self._readers.tick()
            if ticks % 4 == 0:
                self._engine.ask_updates()
                if ticks % 8 == 0:
                    self._engine.ask_stats()
                    self._publisher.vitals(self._engine.port, self._free(), len(self._by_handle) + len(self._resting))
                self._publisher.publish()
                self._save_running()

    def _save_running(self) -> None:
        now = time.monotonic()
        for held in self._by_handle.values():
            if held.torrent and not held.complete and now - held.saved_at > _SAVE_EVERY:
                self._request_save(held)

    async def _watch_disk_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_DISK_LOOK)
            await self._look_at_disk()

    async def _look_at_disk(self) -> None:
        """Stall downloads before the reserve is touched, and let them go on when there is room for them."""
        free = await self._in_thread(self._free) - self._config.disk_reserve
        for held in list(self._by_handle.values()):
            if held.complete or not held.torrent or held.status in (TorzStatus.FAILED, TorzStatus.INVALID):
                continue
            needed = self._publisher.missing_bytes(held)
            if not held.stalled and (free <= 0 or needed > free):
                self._stall(held, _full(needed, free))
            elif held.stalled and free > 0 and needed <= free:
                self._go_on(held)
            if not held.stalled:
                free -= needed

    def _stall(self, held: Held, message: str) -> None:
        held.stalled = message
        held.handle.set_flags(lt.torrent_flags.upload_mode)
        held.status, held.message = TorzStatus.QUEUED, message
        self._start(self._set_status(held, TorzStatus.QUEUED, message))
        self._publisher.tell(held)

    def _go_on(self, held: Held) -> None:
        held.stalled = ""
        held.handle.clear_error()
        held.handle.unset_flags(lt.torrent_flags.upload_mode)
        held.handle.resume()
        self._start(self._set_status(held, TorzStatus.DOWNLOADING, ""))
        self._publisher.tell(held)

    # Commands

    async def handle(self, command: Command, connection: int) -> PieceMap | None:
        """Do what somebody asks. Raises Unavailable when that cannot be done now."""
        if isinstance(command, Nudge):
            self._nudge.set()
            return None
        if isinstance(command, Watch):
            held = self._held.get(command.hash)
            if held is None or not held.is_loaded or held.torrent is None:
                raise Unavailable("the engine does not know this torrent yet")
            return await self._readers.watch(held, connection)
        if isinstance(command, Unwatch):
            if held := self._held.get(command.hash):
                self._readers.unwatch(held, connection)
        elif isinstance(command, Read):
            held = self._held.get(command.hash)
            if held is None or held.torrent is None or not held.watchers:
                raise Unavailable("the engine does not follow this torrent")
            self._readers.read(held, (connection, command.reader), command.start, command.stop)
        elif isinstance(command, Unread):
            self._readers.leave((connection, command.reader))
        return None

    # Small things

    async def _settle(self, held: Held, status: TorzStatus, message: str) -> None:
        """It comes to an end that only its user can change; the engine need not keep it."""
        self._held.pop(held.hash, None)
        self._readers.drop(held)
        if held.is_loaded:
            self._by_handle.pop(held.handle, None)
            self._engine.remove(held.handle)
        await self._settle_row(held.hash, status, message)

    async def _settle_row(self, hash: bytes, status: TorzStatus, message: str) -> None:
        log.info("%s is %s: %s", hash.hex(), status.value, message)
        await self._repo.set_status(hash, status, message)
        self._server.broadcast([Lost(hash), Changed(hash)])

    async def _set_status(self, held: Held, status: TorzStatus, message: str) -> None:
        held.status, held.message = status, message
        await self._repo.set_status(held.hash, status, message)
        self._tell_changed(held)

    def _tell_changed(self, held: Held) -> None:
        self._server.broadcast([Changed(held.hash)])
        self._publisher.tell(held)

    def _request_save(self, held: Held) -> None:
        held.saved_at = time.monotonic()
        with contextlib.suppress(RuntimeError):
            held.handle.save_resume_data(
                lt.save_resume_flags_t.only_if_modified | lt.save_resume_flags_t.save_info_dict
            )

    async def _save(self, held: Held) -> None:
        if held.is_loaded:
            future = self._saving[held.hash] = asyncio.get_running_loop().create_future()
            self._request_save(held)
            await future

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()):
            log.error("something went wrong in the engine's process", exc_info=exc)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _key(hashes: Any) -> bytes:
    """The 20 bytes that a torrent goes by."""
    best = hashes.v1 if hashes.has_v1() else hashes.v2
    return bytes(best.to_bytes())[:20]


def _full(needed: int, free: int) -> str:
    return (
        f"The disk is full: {needed / 1e6:.1f} MB are needed and {max(0, free) / 1e6:.1f} MB are free. "
        "Free some space; the download goes on by itself."
    )


_HANDLERS: dict[type, Callable[[Node, Any], None]] = {
    lt.add_torrent_alert: Node._on_added,
    lt.metadata_received_alert: Node._on_metadata,
    lt.piece_finished_alert: Node._on_piece,
    lt.torrent_finished_alert: Node._on_finished,
    lt.torrent_checked_alert: Node._on_finished,
    lt.state_changed_alert: Node._on_state,
    lt.torrent_removed_alert: Node._on_removed,
    lt.file_error_alert: Node._on_file_error,
    lt.save_resume_data_alert: Node._on_saved,
    lt.save_resume_data_failed_alert: Node._on_not_saved,
    lt.cache_flushed_alert: Node._on_flushed,
    lt.state_update_alert: Node._on_update,
    lt.session_stats_alert: Node._on_stats,
    lt.listen_failed_alert: Node._on_listen_failed,
    lt.listen_succeeded_alert: Node._on_listening,
    lt.alerts_dropped_alert: Node._on_dropped,
}

"""The node: makes the engine match the rows, writes down what becomes of them, and tells who listens."""

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from heapq import nlargest
from typing import Any, TypeVar

import libtorrent as lt

from torz.bus.socket import NodeServer
from torz.config import Config
from torz.domain.errors import InvalidMagnet, InvalidTorrent, Unavailable
from torz.domain.magnet import Magnet
from torz.domain.metainfo import Torrent
from torz.domain.torz import TorzStatus
from torz.domain.videohash import EDGE, is_video, video_hash
from torz.node import engine
from torz.node.durability import Resume
from torz.node.engine import Engine
from torz.node.files import DataFolder, edges
from torz.node.held import Held
from torz.node.layout import lay_out
from torz.node.publisher import Publisher
from torz.node.readers import Readers
from torz.ports.node import Changed, Command, Lost, Nudge, PieceMap, Unread, Unwatch, Watch
from torz.ports.repo import Desired, NodeRepo

log = logging.getLogger("torz.node")
T = TypeVar("T")

_SAFETY_NET = 5.0
"""Seconds between looks at the rows, should a nudge get lost."""
_SLICE = 200
"""Torrents that are added or removed before others get their turn."""
_SAVE_EVERY = 30.0
"""Seconds between saves of a running download's resume data."""
_DISK_LOOK = 2.0
"""Seconds between looks at the free space."""
_LONGEST_RETRY = 60.0
"""Seconds between tries to write where that keeps failing although there is room."""
_PERSEVERANCE = 2.0
"""Seconds until the database is tried again."""
_LET_GO = 10.0
"""Seconds that the engine gets to close a removed torrent's files."""
_SAVE_PATIENCE = 6.0
"""Seconds for all resume data at a stop; the whole of it must not take ten."""
_LARGE = 256 << 10
"""Bytes of a .torrent that takes long enough to be taken apart in a thread."""
_SMALLEST_VIDEO = 128 << 10
"""Bytes below which a video has no hash worth knowing."""
_RECHECKS = 3
"""How often the files of a torrent may be found changed under our hands."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_WRITE = (*_NO_SPACE, errno.EROFS, errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ENOTDIR)
_MISSING = "Its files are missing or cut short on disk. Remove it and add it again to download it anew."
_CHECKING = "The files on disk are being checked."
_TWICE = "The same torrent is here already under its other info hash. Use that one, and remove this one."
_NO_PEER_SENT = "Waiting for metadata: no peer has sent it yet."
_ALL_HERE = "Everything is here; it is being written to the disk."
_STATES = lt.torrent_status.states


class Node:
    """Everything happens in one loop; whatever may take long is in threads or in the engine."""

    def __init__(self, config: Config, repo: NodeRepo, data: DataFolder, free: Callable[[], int] | None = None) -> None:
        """`free` tells the bytes left on the disk; a test may say something else than the disk does."""
        self._config = config
        self._repo = repo
        self._data = data
        self._free = free or data.free
        self._disk_free = 0
        """Bytes, when last looked."""
        self._room = 0
        """Those of them that nobody needs yet."""
        self._held: dict[bytes, Held] = {}
        self._by_handle: dict[Any, Held] = {}
        self._leaving: dict[Any, Held] = {}
        """Taken out, and not yet let go by the engine."""
        self._resting: dict[bytes, tuple[int, int]] = {}
        """Complete and not loaded, served from disk by those who serve: when completed, and the revision."""
        self._failing: dict[bytes, Desired] = {}
        """Rows that could not be followed and are tried again."""
        self._to_check: list[Held] = []
        self._checking: Held | None = None
        self._revision = 0
        self._nudge = asyncio.Event()
        self._threads = ThreadPoolExecutor(4, "torz-node-disk")
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume = Resume(data, self._in_thread)
        self._port = 0
        self._listen_problem = ""
        self._engine = Engine(config, self._hear)

    async def run(self, server: NodeServer, publisher: Publisher, readers: Readers, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then save everything and let go."""
        self._server, self._publisher, self._readers = server, publisher, readers
        readers.distrusted = self._distrust
        self._is_clean, self._same_boot = self._data.begin()
        self._disk_free = self._free()
        self._room = self._disk_free - self._config.disk_reserve
        self._engine.start()
        running: list[asyncio.Task[Any]] = []
        try:
            await server.start()
            loops = (self._reconcile_for_ever(), self._tick_for_ever(), self._watch_disk_for_ever(), stop.wait())
            running += [asyncio.create_task(loop) for loop in loops]
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()  # a loop ends only by failing; then so do we, and are started again
        finally:
            await self._end([*running, *self._tasks])

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        self._engine.pause()
        await self._server.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._readers.aclose()
        saved = await self._save_all()
        self._by_handle.clear()
        self._leaving.clear()
        self._held.clear()
        await self._engine.close()
        if saved:  # what the engine had not written it has by now
            with contextlib.suppress(OSError):
                await self._in_thread(self._data.end)
        self._threads.shutdown()

    async def _save_all(self) -> bool:
        """Whether all was saved that a next start may trust."""
        unfinished = [held for held in self._held.values() if held.is_loaded and held.torrent and not held.complete]
        try:
            async with asyncio.timeout(_SAVE_PATIENCE):
                await asyncio.gather(*(self._resume.ask(held) for held in unfinished))
                await asyncio.gather(*(self._resume.quiesce(held) for held in self._held.values()))
        except TimeoutError:
            log.warning("not everything could be saved; what is unfinished will be checked at the next start")
            return False
        for held in unfinished:
            if held.stalled and held.failures:  # what the engine could not write may be named in what it gave us
                self._data.forget_resume(held.hash)
        return True

    def held(self) -> list[Held]:
        return list(self._held.values())

    # The rows → the engine

    async def _reconcile_for_ever(self) -> None:
        while True:
            self._nudge.clear()
            try:
                await self._reconcile()
            except Exception:  # a database that is busy or full is no reason to end every download
                log.exception("the rows cannot be read")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAFETY_NET):
                    await self._nudge.wait()

    async def _reconcile(self) -> None:
        failing, self._failing = self._failing, {}
        await self._follow(list(failing.values()))
        while rows := await self._repo.desired(self._revision):
            await self._follow(rows)
            self._revision = rows[-1].revision
        await self._balance_seeds()

    async def _follow(self, rows: list[Desired]) -> None:
        for start in range(0, len(rows), _SLICE):
            part = rows[start : start + _SLICE]
            await asyncio.gather(*(self._follow_one(row) for row in part if not row.wanted))
            for row in part:
                if row.wanted:
                    await self._follow_one(row)
            await asyncio.sleep(0)

    async def _follow_one(self, row: Desired) -> None:
        try:
            if not row.wanted:
                await self._remove(row)
            elif row.complete and row.hash not in self._held and self._may_rest(row):
                self._resting[row.hash] = row.used_at, row.revision
            else:
                await self._want(row)
        except Exception:  # one torrent's trouble is not the others'
            log.exception("%s cannot be followed; it is tried again", row.hash.hex())
            self._failing[row.hash] = row

    def _may_rest(self, row: Desired) -> bool:
        """Whether what was complete still is, without looking at every byte."""
        return row.synced or self._same_boot or self._is_clean

    async def _balance_seeds(self) -> None:
        """Seed what was completed last, as many as the settings allow; the rest is served from disk."""
        seeds = [held for held in self._held.values() if held.complete and held.is_loaded and not held.finishing]
        room = self._config.engine_seeds - sum(held.complete for held in self._held.values())
        if room < 0:
            for held in nlargest(-room, seeds, key=lambda held: -held.used_at):
                self._take_out(held)
                self._resting[held.hash] = held.used_at, held.revision
        for hash, (_, revision) in nlargest(room, self._resting.items(), key=lambda item: item[1]) if room > 0 else ():
            rows = await self._repo.desired(revision - 1, 1)
            if rows and rows[0].hash == hash and rows[0].wanted and rows[0].complete:
                await self._want(rows[0])

    async def _want(self, row: Desired) -> None:
        held = self._held.get(row.hash)
        if held is None:
            self._resting.pop(row.hash, None)
            if row.status is not TorzStatus.INVALID:
                await self._load(row)
        else:
            held.revision = row.revision
            held.named = Magnet.parse(row.magnet)
            if held.is_loaded:
                self._merge(held, held.named)

    def _merge(self, held: Held, magnet: Magnet) -> None:
        """Ask those too whom somebody else named. A private torrent has its own, and no others' are its business."""
        if held.torrent and held.torrent.private:
            self._connect(held, magnet)
            return
        for tracker in magnet.trackers:
            if tracker not in held.magnet.trackers:
                held.handle.add_tracker({"url": tracker, "tier": 0})
        for seed in magnet.web_seeds:
            if seed not in held.magnet.web_seeds:
                held.handle.add_url_seed(seed)
        self._connect(held, magnet)
        held.magnet = magnet

    def _connect(self, held: Held, magnet: Magnet) -> None:
        """Peers that were named with the torrent."""
        for peer in magnet.peers:
            host, _, port = peer.rpartition(":")
            with contextlib.suppress(RuntimeError):  # a name instead of an address
                held.handle.connect_peer((host.strip("[]"), int(port)))

    async def _load(self, row: Desired) -> None:
        """Put it into the engine, with what is known of it."""
        try:
            held = Held(row, Magnet.parse(row.magnet), time.monotonic() - _SAVE_EVERY * row.hash[0] / 256)
        except InvalidMagnet:
            await self._settle_row(row.hash, TorzStatus.INVALID, "Its magnet cannot be read.")
            return
        metainfo = await self._repo.metainfo(row.hash) if row.has_metainfo else None
        has_failed = row.status is TorzStatus.FAILED
        held.complete = row.complete and self._may_rest(row)
        try:
            params = await self._params(held, metainfo, trusted=self._is_clean and not has_failed)
        except (InvalidTorrent, RuntimeError) as exc:
            reason = exc.hint if isinstance(exc, InvalidTorrent) else f"The engine refuses it: {engine.why(exc)}."
            await self._settle_row(row.hash, TorzStatus.INVALID, reason)
            return
        if held.layout and not row.complete:
            await self._repo.lay_out(held.hash, held.layout)
        if (row.complete or has_failed) and await self._is_missing(held):
            if not has_failed:
                await self._settle_row(row.hash, TorzStatus.FAILED, _MISSING)
            return
        if held.complete:
            held.status = TorzStatus.DOWNLOADED
        elif held.must_check:
            params.flags |= lt.torrent_flags.paused
            held.status, held.message = TorzStatus.PROCESSING, _CHECKING
            await self._repo.set_status(held.hash, held.status, held.message)
            self._tell_changed(held)
        elif held.torrent and not self._reserve(held):
            params.flags |= lt.torrent_flags.upload_mode
            self._say(held, TorzStatus.QUEUED, held.stalled)
        self._held[row.hash] = held
        self._engine.add(params)

    async def _is_missing(self, held: Held) -> bool:
        layout = held.layout
        return bool(layout and await self._in_thread(lambda: self._data.missing(held.hash, layout)))

    async def _has_holes(self, held: Held) -> bool:
        layout = held.layout
        return bool(layout and await self._in_thread(lambda: self._data.has_holes(held.hash, layout)))

    async def _params(self, held: Held, metainfo: bytes | None, *, trusted: bool) -> lt.add_torrent_params:
        """`trusted` is what was noted at the last stop. Raises InvalidTorrent, or RuntimeError as the engine does."""
        folder = self._data.folder(held.hash)
        if metainfo is None:
            params = engine.from_magnet(held.magnet)
        else:
            params = await self._known_params(held, metainfo, trusted)
            folder.mkdir(parents=True, exist_ok=True)
        return engine.prepare(params, folder, held.magnet, pex=self._config.engine_pex)

    async def _known_params(self, held: Held, metainfo: bytes, trusted: bool) -> lt.add_torrent_params:
        """From the .torrent, and from resume data where that may be trusted."""
        torrent = await self._in_thread(lambda: Torrent.parse(metainfo)) if len(metainfo) > _LARGE else None
        torrent = torrent or Torrent.parse(metainfo)
        params = lt.load_torrent_buffer(metainfo)
        assert params.ti
        self._know(held, torrent, params.ti, params.renamed_files)
        held.is_met = held.is_wanted = True
        if held.complete:
            params.flags |= lt.torrent_flags.seed_mode  # pieces are hashed before they first leave
        elif not (trusted and self._resume_from(held, params)):
            held.must_check = self._data.has_files(held.hash)
        return params

    def _resume_from(self, held: Held, params: lt.add_torrent_params) -> bool:
        """Take over what was there at the last stop. Only the pieces: all else is ours to say."""
        for data in self._data.read_resume(held.hash):
            with contextlib.suppress(RuntimeError):  # damaged; the one before may do
                resumed = lt.read_resume_data(data)
                if resumed.info_hashes == params.info_hashes:
                    params.have_pieces = resumed.have_pieces
                    params.verified_pieces = resumed.verified_pieces
                    params.unfinished_pieces = resumed.unfinished_pieces
                    params.peers = [*params.peers, *resumed.peers]
                    return True
        return False

    def _know(self, held: Held, torrent: Torrent, ti: lt.torrent_info, renamed: Mapping[int, str]) -> None:
        """Raises InvalidTorrent when the engine would lay its files out differently than we read them."""
        held.layout = lay_out(torrent, ti, renamed)
        held.torrent = torrent
        held.count = ti.num_pieces()
        if torrent.private:
            # Other people's trackers are none of a private swarm's business.
            own = torrent.magnet
            held.magnet = Magnet(
                held.magnet.hash,
                held.magnet.v2,
                held.magnet.name,
                own.trackers or held.magnet.trackers,
                peers=held.magnet.peers,
            )

    async def _remove(self, row: Desired) -> None:
        """Take it out with its data, and the row last, so that a crash in between is made good."""
        self._resting.pop(row.hash, None)
        self._failing.pop(row.hash, None)
        held = self._held.get(row.hash)
        if held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO):
                    await held.added.wait()
            self._take_out(held)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO):
                    await held.removed.wait()
            await self._resume.quiesce(held)
        self._server.broadcast([Lost(row.hash)])
        await self._in_thread(lambda: self._data.forget(row.hash))
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
        held = next((one for key in _keys(alert.params.info_hashes) if (one := self._held.get(key))), None)
        if alert.error.value():
            if held and not held.is_loaded:
                is_twice = alert.error.value() == _DUPLICATE and alert.error.category().name() == "libtorrent"
                reason = _TWICE if is_twice else f"The engine refuses it: {alert.error.message()}."
                held.added.set()
                self._start(self._settle(held, TorzStatus.FAILED, reason))
        elif held is None or held.is_loaded:
            self._engine.remove(alert.handle)
        else:
            self._adopt(held, alert.handle)

    def _adopt(self, held: Held, handle: Any) -> None:
        """The engine has it."""
        held.handle = handle
        held.added.set()
        self._by_handle[handle] = held
        if held.must_check:
            self._to_check.append(held)
            self._check_next()
        if not held.torrent:
            held.message = _NO_PEER_SENT
            self._publisher.tell(held)
        self._connect(held, held.magnet)
        if held.named:  # somebody wanted it too while it was on its way
            self._merge(held, held.named)

    def _check_next(self) -> None:
        """One after the other: all at once they would keep the disk from doing any well."""
        if self._checking and self._held.get(self._checking.hash) is self._checking and self._checking.must_check:
            return
        self._checking = None
        while self._to_check:
            held = self._to_check.pop(0)
            if self._held.get(held.hash) is held:
                self._checking = held
                with contextlib.suppress(RuntimeError):
                    held.handle.resume()
                return

    def _on_metadata(self, alert: Any) -> None:
        held = self._of(alert)
        if held:
            self._meet(held, alert.handle.torrent_file())

    def _meet(self, held: Held, ti: lt.torrent_info | None) -> None:
        if ti is not None and not held.is_met:
            held.is_met = True
            self._start(self._learn(held, bytes(ti.info_section()), ti))

    async def _learn(self, held: Held, info: bytes, ti: lt.torrent_info) -> None:
        """Look at metadata from strangers before a byte of it is wanted."""
        try:
            torrent = await self._in_thread(lambda: Torrent.from_info(info, held.magnet.trackers))
            self._know(held, torrent, ti, await self._in_thread(lambda: engine.renamed_files(held.handle, ti)))
        except InvalidTorrent as exc:
            held.torrent = None
            await self._settle(held, TorzStatus.INVALID, exc.hint or exc.message)
            return
        except RuntimeError:  # removed meanwhile
            return
        layout = held.layout
        assert layout
        folder = self._data.folder(held.hash)
        await self._surely(lambda: self._in_thread(lambda: folder.mkdir(parents=True, exist_ok=True)))
        await self._surely(lambda: self._repo.learn(torrent, held.hash))
        await self._surely(lambda: self._repo.lay_out(held.hash, layout))
        if not self._is_here(held):
            return
        held.is_wanted = True
        with contextlib.suppress(RuntimeError):  # removed meanwhile
            if self._reserve(held):
                self._say(held, TorzStatus.DOWNLOADING)
            else:
                held.handle.set_flags(lt.torrent_flags.upload_mode)
                self._say(held, TorzStatus.QUEUED, held.stalled)
            held.handle.unset_flags(lt.torrent_flags.default_dont_download)
            held.handle.prioritize_files(engine.file_priorities(ti))
            held.saved_at = time.monotonic()
            self._resume.ask(held)

    def _on_piece(self, alert: Any) -> None:
        held = self._of(alert)
        if held and held.watchers:
            self._readers.passed(held, alert.piece_index)

    def _on_finished(self, alert: Any) -> None:
        if held := self._of(alert):
            self._look_whether_finished(held)

    def _on_checked(self, alert: Any) -> None:
        if held := self._of(alert):
            if held.must_check:
                held.must_check = False
                self._check_next()
            self._look_whether_finished(held)

    def _look_whether_finished(self, held: Held) -> None:
        if not held.is_wanted or held.complete:
            return
        held.finished_again = True
        if held.finishing is None:
            held.finishing = self._start(self._finish(held))

    async def _finish(self, held: Held) -> None:
        """Try until it is complete, or until it turns out that it is not."""
        try:
            while held.finished_again and self._is_here(held):
                held.finished_again = False
                try:
                    await self._finish_once(held)
                except (
                    Exception
                ) as exc:  # the disk or the database may be full; what is here must be found complete later
                    log.warning("%s could not be finished: %s", held.name, exc)
                    held.finished_again = True
                    await asyncio.sleep(_PERSEVERANCE)
        finally:
            held.finishing = None
        if held.complete:
            self._nudge.set()  # there may be one too many now
            await self._sync(held)

    async def _finish_once(self, held: Held) -> None:
        """From the last piece to a torrent that may be served from its files."""
        if held.stalled:  # it is looked at again when it may go on
            return
        if not await self._has_all(held):
            self._readers.nothing_wanted(held)  # only what readers asked for is here
            return
        self._say(held, TorzStatus.UPLOADING, _ALL_HERE)
        await self._readers.flush(held)
        if held.stalled or not await self._has_all(held):  # it could not be written, and the engine took pieces back
            if held.status is TorzStatus.UPLOADING:
                self._say(held, TorzStatus.DOWNLOADING)
            return
        if await self._is_missing(held) or (not held.rechecks and await self._has_holes(held)):
            self._distrust(held)
            return
        for index, value in (await self._in_thread(lambda: self._video_hashes(held))).items():
            await self._repo.set_video_hash(held.hash, index, value)
        if held.writing:
            await asyncio.wait([held.writing])
        if not self._is_uploading(held):
            return
        held.used_at = int(time.time())
        await self._repo.complete(held.hash, held.used_at)
        if not self._is_uploading(held):  # it is being checked again, and the row must say so
            self._write(held)
            return
        held.complete = True
        held.status, held.message = TorzStatus.DOWNLOADED, ""
        held.rechecks = held.failures = 0
        self._tell_changed(held)
        self._readers.completed(held)

    def _is_uploading(self, held: Held) -> bool:
        return self._is_here(held) and held.status is TorzStatus.UPLOADING

    async def _has_all(self, held: Held) -> bool:
        status = await self._in_thread(lambda: held.handle.status(0))
        return bool(status.num_pieces == held.count and status.state in (_STATES.seeding, _STATES.finished))

    async def _sync(self, held: Held) -> None:
        """What is complete survives a power cut after this."""
        layout = held.layout
        assert layout
        try:
            await self._in_thread(lambda: self._data.sync(held.hash, layout))
        except OSError as exc:  # it will be checked should the machine go down
            log.warning("the files of %s cannot be synced: %s", held.name, exc.strerror)
            return
        if held.complete:
            await self._surely(lambda: self._repo.synced(held.hash))

    def _video_hashes(self, held: Held) -> dict[int, str]:
        assert held.layout
        folder = self._data.folder(held.hash)
        return {
            place.index: video_hash(place.size, *edges(folder, place.path, place.size, EDGE))
            for place in held.layout.places
            if place.size >= _SMALLEST_VIDEO and is_video(place.path)
        }

    def _distrust(self, held: Held) -> None:
        """The files are not what the engine believes: have it look."""
        self._readers.lose(held)
        held.rechecks += 1
        if held.rechecks > _RECHECKS:
            reason = "Its files keep being changed on disk. Remove it and add it again to download it anew."
            self._start(self._settle(held, TorzStatus.FAILED, reason))
            return
        self._say(held, TorzStatus.PROCESSING, _CHECKING)
        with contextlib.suppress(RuntimeError):
            held.handle.clear_error()
            held.handle.force_recheck()
            held.handle.resume()

    def _on_state(self, alert: Any) -> None:
        if held := self._of(alert):
            self._enter(held, alert.state)

    def _enter(self, held: Held, state: int) -> None:
        """A torrent that is checked has nothing to show until the check says so."""
        if not held.is_wanted or state not in (_STATES.checking_files, _STATES.downloading):
            return
        is_checked = state == _STATES.checking_files
        if held.complete or is_checked:
            held.complete = False
            self._readers.lose(held)
            self._server.broadcast([Lost(held.hash)])
        if is_checked:
            self._say(held, TorzStatus.PROCESSING, _CHECKING)
        elif held.stalled:
            self._say(held, TorzStatus.QUEUED, held.stalled)
        else:
            self._say(held, TorzStatus.DOWNLOADING)

    def _on_removed(self, alert: Any) -> None:
        if held := self._leaving.pop(alert.handle, None):
            held.removed.set()

    def _on_conflict(self, alert: Any) -> None:
        """Two magnets turned out to be the two hashes of one hybrid; the engine has stopped both."""
        held = self._of(alert)
        first = next((one for one in self._held.values() if one is not held and one.torrent), None) if held else None
        if held and not held.torrent:
            self._start(self._settle(held, TorzStatus.FAILED, _TWICE))
        if first:
            log.warning("%s is here under both its hashes", held.name if held else "a hybrid")

    def _on_file_error(self, alert: Any) -> None:
        if held := self._of(alert):
            self._fail(held, alert.error)

    def _fail(self, held: Held, error: Any) -> None:
        """The engine could not read or write its files; it says so for every block."""
        number = error.value() if error.category().name() in ("system", "generic") else 0
        reason = f"The disk failed: {error.message()}."
        if held.stalled:
            return
        if held.complete or held.status is TorzStatus.PROCESSING:
            self._start(self._give_up(held, reason))
        elif number in _NO_WRITE:
            held.failures += 1
            held.retry_at = time.monotonic() + min(_LONGEST_RETRY, _DISK_LOOK * 2 ** min(held.failures - 1, 10))
            what = "The disk is full" if number in _NO_SPACE else "The data folder cannot be written"
            self._readers.lose(held)  # pieces whose hash was right may not be there after all
            self._readers.cannot_flush(held)
            self._stall(held, f"{what}; the download goes on by itself when that is mended.")
        elif number in _GONE:
            self._distrust(held)
        else:
            self._start(self._settle(held, TorzStatus.FAILED, reason))

    async def _give_up(self, held: Held, reason: str) -> None:
        """Unless what is complaining is over already: the last words of a torrent that is being checked again."""
        try:
            status = await self._in_thread(lambda: held.handle.status(0))
            is_missing = held.complete and await self._is_missing(held)
        except RuntimeError:  # removed meanwhile
            return
        if held.complete or status.errc.value():
            await self._settle(held, TorzStatus.FAILED, _MISSING if is_missing else reason)

    def _on_saved(self, alert: Any) -> None:
        if held := self._of(alert):
            self._resume.answered(held, bytes(lt.write_resume_data_buf(alert.params)))

    def _on_not_saved(self, alert: Any) -> None:
        if held := self._of(alert):
            self._resume.answered(held, None)

    def _on_flushed(self, alert: Any) -> None:
        if held := self._of(alert):
            self._readers.flushed(held)

    def _on_update(self, alert: Any) -> None:
        for status in alert.status:
            if held := self._by_handle.get(status.handle):
                self._publisher.update(held, status)
        self._publisher.publish()

    def _on_stats(self, alert: Any) -> None:
        self._publisher.stats(alert.values)

    def _on_listening(self, alert: Any) -> None:
        self._port = self._port or int(alert.port)

    def _on_listen_failed(self, alert: Any) -> None:
        self._listen_problem = (
            f"Peers cannot reach the engine: {alert.error.message()}. Set TORZ_ENGINE_LISTEN to a free port."
        )

    def _on_dropped(self, alert: Any) -> None:
        log.warning("the engine said more than could be heard; looking at everything again")
        self._start(self._resync())

    async def _resync(self) -> None:
        """Any alert may be missing: ask for what each would have said."""
        for held in [one for one in self._leaving.values() if not one.handle.is_valid()]:
            held.removed.set()
        self._leaving = {handle: held for handle, held in self._leaving.items() if not held.removed.is_set()}
        for held in list(self._held.values()):
            try:
                await self._resync_one(held)
            except RuntimeError:  # removed meanwhile
                log.debug("%s went while it was looked at", held.name)

    async def _resync_one(self, held: Held) -> None:
        handle = held.handle or await self._in_thread(lambda: self._engine.find(held.hash))
        if handle is None or not self._is_here(held):
            return
        if held.handle is None:
            self._adopt(held, handle)
        self._resume.lost(held)
        for _ in held.flushed:
            handle.flush_cache()
        if held.watchers and not held.complete:
            self._readers.lose(held)
        status = await self._in_thread(lambda: handle.status(0))
        if not self._is_here(held):
            return
        if held.torrent is None:
            self._meet(held, handle.torrent_file())
        elif not held.complete or status.state in (_STATES.checking_files, _STATES.downloading):
            self._enter(held, status.state)
        if status.errc.value():
            self._fail(held, status.errc)
        if held.must_check and self._checking is held and status.state != _STATES.checking_files:
            held.must_check = False
            self._check_next()
        self._look_whether_finished(held)

    # What happens by the clock

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(0.25)
            ticks += 1
            self._readers.tick()
            if ticks % 4 == 0:
                self._engine.ask_updates()
                self._check_next()
                if ticks % 8 == 0:
                    self._engine.ask_stats()
                    self._publisher.problem = self._problem()
                    self._publisher.vitals(self._port, self._disk_free, len(self._by_handle) + len(self._resting))
                self._save_running()

    def _problem(self) -> str:
        """What is wrong with the node as a whole."""
        ports = (part.rpartition(":")[2] for part in self._config.engine_listen.split(","))
        wanted = {int(port) for port in ports if port.isdecimal()}
        if not self._port:
            return self._listen_problem
        if wanted and 0 not in wanted and self._port not in wanted:
            return (
                f"Another program has the engine's port; peers are told {self._port} instead. "
                "Set TORZ_ENGINE_LISTEN to a free port."
            )
        stalled = next((held.stalled for held in self._by_handle.values() if held.stalled and held.failures), "")
        return stalled.replace("the download goes", "downloads go")

    def _save_running(self) -> None:
        now = time.monotonic()
        for held in self._by_handle.values():
            if held.torrent and not held.complete and now - held.saved_at > _SAVE_EVERY:
                held.saved_at = now
                self._resume.ask(held)

    async def _watch_disk_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_DISK_LOOK)
            try:
                await self._look_at_disk()
            except OSError as exc:  # a disk that comes and goes
                log.warning("the free space cannot be told: %s", exc.strerror)

    async def _look_at_disk(self) -> None:
        """Stall downloads before the reserve is touched, and let them go on when there is room for them."""
        self._disk_free = await self._in_thread(self._free)
        free = self._disk_free - self._config.disk_reserve
        now = time.monotonic()
        for held in list(self._by_handle.values()):
            if held.complete or not held.is_wanted or held.status is TorzStatus.PROCESSING or not held.torrent:
                continue
            needed = self._publisher.missing_bytes(held)
            fits = needed <= max(0, free)
            with contextlib.suppress(RuntimeError):  # removed meanwhile
                if not fits and not held.stalled:
                    self._stall(held, _full(needed, free))
                elif not fits:
                    held.stalled = held.message = _full(needed, free)
                    self._publisher.tell(held)
                elif held.stalled and now >= held.retry_at:
                    self._go_on(held)
            if not held.stalled:
                free -= needed
        self._room = free

    def _reserve(self, held: Held) -> bool:
        """Whether there is room for one that begins; if not, it is stalled."""
        needed = self._publisher.missing_bytes(held)
        if needed > self._room:
            held.stalled = _full(needed, self._room)
            return False
        self._room -= needed
        return True

    def _stall(self, held: Held, message: str) -> None:
        held.stalled = message
        held.handle.set_flags(lt.torrent_flags.upload_mode)
        self._say(held, TorzStatus.QUEUED, message)

    def _go_on(self, held: Held) -> None:
        held.stalled = ""
        held.handle.clear_error()
        held.handle.unset_flags(lt.torrent_flags.upload_mode)
        held.handle.resume()
        self._say(held, TorzStatus.DOWNLOADING)
        self._look_whether_finished(held)

    # Commands

    async def handle(self, command: Command, connection: int) -> PieceMap | None:
        """Do what somebody asks. Raises Unavailable when that cannot be done now."""
        if isinstance(command, Nudge):
            self._nudge.set()
            return None
        if isinstance(command, Unread):
            self._readers.leave((connection, command.reader))
            return None
        held = self._held.get(command.hash)
        if isinstance(command, Unwatch):
            if held:
                self._readers.unwatch(held, connection)
            return None
        if held is None or not held.is_loaded or not held.is_wanted:
            raise Unavailable("the engine does not know this torrent yet")
        if isinstance(command, Watch):
            return await self._readers.watch(held, connection)
        if not held.watchers:
            raise Unavailable("the engine does not follow this torrent")
        self._readers.read(held, (connection, command.reader), command.start, command.stop)
        return None

    # Small things

    def _is_here(self, held: Held) -> bool:
        return self._held.get(held.hash) is held

    def _take_out(self, held: Held) -> None:
        """Out of the engine, with its files left where they are."""
        if self._is_here(held):
            del self._held[held.hash]
        for task in (held.finishing, held.writing):
            if task and task is not asyncio.current_task():
                task.cancel()
        self._readers.drop(held)
        self._publisher.forget(held.hash)
        self._resume.lost(held)
        if held.is_loaded:
            self._by_handle.pop(held.handle, None)
            self._leaving[held.handle] = held
            self._engine.remove(held.handle)
        else:
            held.removed.set()

    async def _settle(self, held: Held, status: TorzStatus, message: str) -> None:
        """It comes to an end that only its user can change; the engine need not keep it."""
        if self._is_here(held):
            self._take_out(held)
            await self._settle_row(held.hash, status, message)

    async def _settle_row(self, hash: bytes, status: TorzStatus, message: str) -> None:
        log.info("%s is %s: %s", hash.hex(), status.value, message)
        await self._surely(lambda: self._repo.set_status(hash, status, message))
        self._server.broadcast([Lost(hash), Changed(hash)])

    def _say(self, held: Held, status: TorzStatus, message: str = "") -> None:
        """Its status is another one from now on: for those who listen at once, for the rows soon."""
        if (held.status, held.message) != (status, message):
            held.status, held.message = status, message
            self._publisher.tell(held)
            self._write(held)

    def _write(self, held: Held) -> None:
        held.unwritten = True
        if held.writing is None:
            held.writing = self._start(self._write_status(held))

    async def _write_status(self, held: Held) -> None:
        try:
            while held.unwritten:
                held.unwritten = False
                await self._surely(lambda: self._repo.set_status(held.hash, held.status, held.message))
                self._tell_changed(held)
        finally:
            held.writing = None

    def _tell_changed(self, held: Held) -> None:
        """Whoever hears that the rows changed forgets what was told before, so it is told again."""
        self._server.broadcast([Changed(held.hash)])
        self._publisher.tell(held)

    async def _surely(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write to the rows; a database that is busy or full gets time."""
        while True:
            try:
                return await write()
            except Exception:  # what a database may raise is its own; what has happened must be written in the end
                log.exception("the rows cannot be written; it is tried again")
                await asyncio.sleep(_PERSEVERANCE)

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


_DUPLICATE = 19
"""libtorrent's number for a torrent that is in the session already."""


def _keys(hashes: Any) -> list[bytes]:
    """The 20 bytes that a torrent may go by here: a hybrid's magnet may name either of its hashes."""
    found = [hashes.v1] if hashes.has_v1() else []
    return [bytes(hash.to_bytes())[:20] for hash in (*found, *([hashes.v2] if hashes.has_v2() else []))]


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
    lt.torrent_checked_alert: Node._on_checked,
    lt.state_changed_alert: Node._on_state,
    lt.torrent_removed_alert: Node._on_removed,
    lt.torrent_conflict_alert: Node._on_conflict,
    lt.torrent_error_alert: Node._on_file_error,
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

"""The node's files: a folder per torrent, resume data, and what tells a clean stop from a crash."""

import contextlib
import ctypes
import fcntl
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from torz.domain.errors import TorzError
from torz.ports.repo import Layout


class FolderTaken(TorzError):
    """another engine uses the data folder."""


class DataFolder:
    """Everything of a node lies below one folder. `hash` is always the 20 raw bytes, so no name of a torrent counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.torrents = root / "torrents"
        self._resume = root / "resume"
        self._clean = root / "node.clean"
        self._boot = root / "node.boot"

    def lock(self) -> IO[str]:
        """Have it for ourselves until what is given is closed. Raises FolderTaken, OSError."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = (self.root / "node.lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            handle.close()
            raise FolderTaken(f"Another engine uses the data folder {self.root}. Stop it first.") from exc
        return handle

    def prepare(self) -> None:
        """Make the folders, and try that they can be written. Raises OSError."""
        for folder in (self.torrents, self._resume):
            folder.mkdir(parents=True, exist_ok=True)
        probe = self.torrents / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()

    def folder(self, hash: bytes) -> Path:
        return self.torrents / hash.hex()

    def begin(self) -> tuple[bool, bool]:
        """Note that we run: whether the last run stopped in order, and whether the machine has been up since."""
        clean = self._clean.exists()
        self._clean.unlink(missing_ok=True)
        _sync_folder(self.root)  # or a power cut might bring the mark back
        boot = boot_id()
        same_boot = boot != "" and _read_text(self._boot) == boot
        _write(self._boot, boot.encode())
        return clean, same_boot

    def end(self) -> None:
        """Note that all is saved, once it is."""
        _sync_file_system(self.torrents)
        _write(self._clean, b"")

    def read_resume(self, hash: bytes) -> list[bytes]:
        """The resume data there is, the latest first; which of it is whole is for the engine to say."""
        path = self._resume_path(hash)
        return [each.read_bytes() for each in (path, path.with_suffix(".prev")) if each.exists()]

    def write_resume(self, hash: bytes, data: bytes) -> None:
        """Replace the resume data in one step, and keep what was before."""
        path = self._resume_path(hash)
        if path.exists():
            path.replace(path.with_suffix(".prev"))
        _write(path, data)

    def forget(self, hash: bytes) -> None:
        """Remove a torrent's data and all we noted of it. Links are removed and never followed."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder(hash))
        self.forget_resume(hash)

    def forget_resume(self, hash: bytes) -> None:
        """Trust nothing that was noted: the files will be checked."""
        for suffix in (".resume", ".prev"):
            self._resume_path(hash).with_suffix(suffix).unlink(missing_ok=True)

    def has_files(self, hash: bytes) -> bool:
        """Whether anything of it is on disk."""
        try:
            with os.scandir(self.folder(hash)) as found:
                return any(True for _ in found)
        except OSError:
            return False

    def missing(self, hash: bytes, layout: Layout) -> str:
        """The first file that is not there in full; empty when all are."""
        folder = self.folder(hash)
        for place in layout.places:
            try:
                found = (folder / place.path).lstat().st_size
            except OSError:
                return place.path
            if found < place.size:
                return place.path
        return ""

    def has_holes(self, hash: bytes, layout: Layout) -> bool:
        """Whether a part of a file was never written: what is left when one is deleted and begun anew.

        A file system may also turn zeros into holes, so this is a reason to look and no more. Raises OSError.
        """
        for place in layout.places:
            if place.size:
                with _opened(self.folder(hash) / place.path) as fd:
                    if os.lseek(fd, 0, os.SEEK_HOLE) < place.size:
                        return True
        return False

    def sync(self, hash: bytes, layout: Layout) -> None:
        """Have the files, and that they are there, survive a power cut. Raises OSError."""
        top = self.folder(hash)
        folders = {self.torrents, top}
        for place in layout.places:
            path = top / place.path
            with _opened(path) as fd:
                os.fsync(fd)
            while (path := path.parent) not in folders:
                folders.add(path)
        for folder in folders:
            _sync_folder(folder)

    def free(self) -> int:
        """Bytes that can still be written."""
        stat = os.statvfs(self.torrents)
        return stat.f_bavail * stat.f_frsize

    def _resume_path(self, hash: bytes) -> Path:
        return self._resume / f"{hash.hex()}.resume"


def read_span(folder: Path, layout: Layout, start: int, stop: int) -> bytes:
    """Bytes of the torrent as they are on disk; what belongs to no visible file is padding, and zero.

    Raises OSError when a file is not there. What is not written yet reads as zeros or is short.
    """
    span = bytearray(stop - start)
    places = layout.places
    first = max(0, bisect_right(places, start, key=lambda place: place.offset) - 1)
    while first > 0 and places[first - 1].offset + places[first - 1].size > start:
        first -= 1  # empty files begin where the one that holds the byte does
    for place in islice(places, first, None):
        if place.offset >= stop:
            break
        begin, end = max(start, place.offset), min(stop, place.offset + place.size)
        if begin < end:
            with _opened(folder / place.path) as fd:
                data = os.pread(fd, end - begin, begin - place.offset)
            span[begin - start : begin - start + len(data)] = data
    return bytes(span)


def edges(folder: Path, path: str, size: int, edge: int) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file. Raises OSError."""
    with _opened(folder / path) as fd:
        return os.pread(fd, edge, 0), os.pread(fd, edge, size - edge)


def boot_id() -> str:
    """Changes with every start of the machine; empty where the system has none."""
    return _read_text(Path("/proc/sys/kernel/random/boot_id"))


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing, also after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sync_file_system(path: Path) -> None:
    """Have all that was written reach the disk, in one go where the system can do that for one file system."""
    folder = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None).syncfs(folder):
            os.sync()
    except (OSError, AttributeError):
        os.sync()
    finally:
        os.close(folder)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)

"""Programs that people use: a media prober while the file arrives, and another torrent client as a peer."""

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from live import Live, until
from swarm import Tracker, bare_magnet, make_torrent, noise, seeding
from torz.domain.metainfo import Torrent


def program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"!!! {name} is not installed: what needs it is NOT tested")
    return found


def make_movie(path: Path, seconds: int = 20) -> None:
    """A real film with a moving picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 2_000_000
        for n in range(24 * seconds):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for number, plane in enumerate(frame.planes):
                plane.update(noise(plane.buffer_size, 10 * n + number))
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_a_prober_reads_a_film_while_it_is_still_downloaded(tmp_path: Path) -> None:
    ffprobe = program("ffprobe")
    (tmp_path / "made").mkdir()
    make_movie(tmp_path / "made" / "film.mkv")
    content = (tmp_path / "made" / "film.mkv").read_bytes()
    torrent = make_torrent(tmp_path / "seed", content, name="film.mkv", piece_length=65536)
    rate = max(400_000, len(content) // 12)
    with seeding(torrent, tmp_path / "seed", upload_limit=rate) as seeds, Live(tmp_path / "data") as server:
        id = server.add(str(bare_magnet(torrent, *seeds)))
        link = server.link(server.files(id)[0])
        asked = ["-v", "error", "-show_entries", "format=duration:stream=codec_name,width", "-of", "csv=p=0", link]
        seen = subprocess.run([ffprobe, *asked], capture_output=True, text=True, timeout=60, check=True).stdout
        assert server.get(id)["status"] == "downloading"
        assert seen.split()[0] == "mpeg4,320"
        assert 19 < float(seen.split()[1]) < 21
        with av.open(link) as container:
            container.seek(15_000_000)
            assert next(container.decode(video=0)).time >= 10


@contextmanager
def tracker() -> Iterator[str]:
    """The swarm's tracker, in a loop of its own."""
    loop = asyncio.new_event_loop()
    made = Tracker()
    ended = asyncio.Event()
    ready = threading.Event()

    async def run() -> None:
        async with made:
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="tracker")
    thread.start()
    ready.wait(5)
    try:
        yield made.url
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(5)
        loop.close()


def aria2(folder: Path, torrent: Torrent, *more: str) -> "subprocess.Popen[bytes]":
    program("aria2c")
    path = folder.parent / f"{folder.name}.torrent"
    path.write_bytes(torrent.raw)
    options = [
        f"--dir={folder}", "--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--quiet",
        "--interface=127.0.0.1", "--listen-port=20000-40000", "--check-integrity=true", "--file-allocation=none",
        "--bt-tracker-interval=1", "--no-conf", *more,
    ]  # fmt: skip
    return subprocess.Popen(["aria2c", *options, str(path)])


def test_another_client_downloads_from_our_engine_and_our_engine_from_it(tmp_path: Path) -> None:
    content = noise(500_000)
    with tracker() as url:
        torrent = make_torrent(tmp_path / "seed", content, name="film.mkv", trackers=(url,))
        other = aria2(tmp_path / "seed", torrent, "--seed-ratio=0")
        try:
            with Live(tmp_path / "data") as server:
                id = server.upload(torrent.raw)["id"]
                done = server.status(id, "downloaded", timeout=60)
                assert server.read(server.link(done["files"][0])) == content
                other.terminate()
                other.wait(10)
                other = aria2(tmp_path / "fetched", torrent, "--seed-time=0")
                until(lambda: other.poll() is not None, 60)
                assert other.returncode == 0
                assert (tmp_path / "fetched" / "film.mkv").read_bytes() == content
        finally:
            other.kill()
            other.wait(10)

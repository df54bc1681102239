"""The official SDKs, unmodified, against a real server."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live import Live
from swarm import bare_magnet, make_torrent, noise, seeding
from torz.domain.metainfo import Torrent

NPM_SDK = "stremthru@0.11.0"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, str, Torrent, bytes]]:
    """A server, and a magnet that a seed has."""
    folder = tmp_path_factory.mktemp("sdk")
    content = noise(150_000)
    torrent = make_torrent(folder / "seed", content)
    with seeding(torrent, folder / "seed") as seeds, Live(folder / "data") as server:
        yield server, str(bare_magnet(torrent, *seeds)), torrent, content


@pytest.mark.parametrize("auth", ["ann:ann-secret", {"store": "torz", "token": "YW5uOmFubi1zZWNyZXQ="}])
def test_the_python_sdk_does_every_store_call(
    story: tuple[Live, str, Torrent, bytes], auth: Any, tmp_path: Path
) -> None:
    from stremthru import StremThru

    server, magnet, torrent, content = story
    hash = str(torrent.hash)
    StremThru._headers = {}  # it is shared by all clients of a process

    async def calls() -> None:
        sdk = StremThru(base_url=server.url + "/", auth=auth)
        assert (await sdk.health()).data["status"] == "ok"
        assert (await sdk.store.get_user()).data["subscription_status"] == "premium"
        added = (await sdk.store.torz.add(link=magnet)).data
        assert added["hash"] == hash
        got = await asyncio.to_thread(server.status, added["id"], "downloaded")
        assert (await sdk.store.torz.get(added["id"])).data == got
        many = [hash, *(f"{n:040x}" for n in range(1, 500))]
        checked = (await sdk.store.torz.check(hash=many, sid="tt0110912:1:2")).data
        assert [(item["hash"], item["status"]) for item in checked["items"]] == [(hash, "cached")]
        listed = (await sdk.store.torz.list(limit=10)).data
        assert [item["id"] for item in listed["items"]] == [added["id"]]
        link = (await sdk.store.torz.generate_link(got["files"][0]["link"])).data["link"]
        assert server.read(link) == content
        legacy = (await sdk.store.add_magnet(magnet=magnet, client_ip="198.51.100.7")).data
        assert legacy["id"] == added["id"]
        with (tmp_path / "x.torrent").open("w+b") as file:
            file.write(torrent.raw)
            file.seek(0)
            assert (await sdk.store.torz.add(file=file)).data["id"] == added["id"]
        assert (await sdk.store.check_magnet(magnet=[magnet, hash])).data["items"][0]["status"] == "cached"
        assert (await sdk.store.list_magnets()).data["total_items"] == 1
        assert (await sdk.store.get_magnet(added["id"])).data["status"] == "downloaded"
        assert (await sdk.store.generate_link(got["files"][0]["link"], client_ip="")).data["link"]
        await sdk.store.torz.remove(added["id"])
        with pytest.raises(Exception, match="torz not found") as refused:
            await sdk.store.torz.get(added["id"])
        assert (refused.value.code, refused.value.status_code) == ("NOT_FOUND", 404)
        again = (await sdk.store.add_magnet(magnet=magnet)).data
        await sdk.store.remove_magnet(again["id"])

    asyncio.run(calls())


SCRIPT = """
import { StremThru } from "stremthru";
const [baseUrl, auth, magnet, hash] = process.argv.slice(2);
const sdk = new StremThru({ baseUrl, auth });
const seen = {};
seen.health = (await sdk.health()).data.status;
seen.user = (await sdk.store.getUser()).data.subscription_status;
const added = (await sdk.store.addMagnet({ magnet })).data;
let torz;
do { torz = (await sdk.store.getMagnet(added.id)).data; } while (torz.status !== "downloaded");
const many = [hash, ...Array.from({ length: 499 }, (_, n) => (n + 1).toString(16).padStart(40, "0"))];
seen.check = (await sdk.store.checkMagnet({ magnet: many, sid: "tt0110912:1:2" })).data.items.map((i) => [i.hash, i.status]);
seen.list = (await sdk.store.listMagnets({})).data.total_items;
seen.link = (await sdk.store.generateLink({ link: torz.files[0].link })).data.link;
await sdk.store.removeMagnet(added.id);
try { await sdk.store.getMagnet(added.id); } catch (error) {
  seen.error = [error.code, error.type, error.statusCode, String(error.message).includes("not found")];
}
try { await new StremThru({ baseUrl, auth: "ann:wrong" }).store.getUser(); } catch (error) { seen.wrong = error.code; }
console.log(JSON.stringify(seen));
"""


@pytest.fixture(scope="module")
def npm_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK from npm."""
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("!!! npm is not installed: the SDK for JavaScript is NOT tested")
    (folder / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", NPM_SDK],
        cwd=folder, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"!!! npm cannot install {NPM_SDK}: the SDK for JavaScript is NOT tested: {done.stderr[-200:]}")
    (folder / "story.mjs").write_text(SCRIPT)
    return folder


def test_the_javascript_sdk_does_every_store_call(npm_sdk: Path, story: tuple[Live, str, Torrent, bytes]) -> None:
    server, magnet, torrent, _ = story
    done = subprocess.run(
        ["node", "story.mjs", server.url, "ann:ann-secret", magnet, str(torrent.hash)],
        cwd=npm_sdk, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["health"], seen["user"], seen["list"]) == ("ok", "premium", 1)
    assert seen["check"] == [[str(torrent.hash), "cached"]]
    assert seen["link"].startswith(server.url + "/v0/link/")
    assert seen["error"][0] == "NOT_FOUND"
    assert seen["error"][3]
    assert seen["wrong"] == "UNAUTHORIZED"

"""Torz over HTTP, for Python programs.

async with Client("http://127.0.0.1:8679", auth="user:password") as torz:
    added = await torz.add("magnet:?xt=urn:btih:...")
    done = await torz.wait(added.id)
    url = await torz.link(done.files[0].link)
    await torz.download(url, safe_path(Path("films"), done.files[0].path))
"""

from torz.client.client import Client
from torz.client.download import Download, destinations, download, safe_path

__all__ = ["Client", "Download", "destinations", "download", "safe_path"]

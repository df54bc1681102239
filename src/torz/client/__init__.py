"""Torz over HTTP, for Python programs.

async with Client("http://127.0.0.1:8679", auth="user:password") as torz:
    added = await torz.add("magnet:?xt=urn:btih:...")
    done = await torz.wait(added.id)
    url = await torz.link(done.files[0].link)
"""

from torz.client.client import Client
from torz.client.download import Download, download

__all__ = ["Client", "Download", "download"]

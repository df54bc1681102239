"""Where the engine really puts the files of a torrent."""

from collections import defaultdict
from collections.abc import Mapping

import libtorrent as lt

from torz.domain.errors import InvalidTorrent
from torz.domain.metainfo import Torrent
from torz.ports.repo import Layout, Place


def lay_out(torrent: Torrent, ti: lt.torrent_info, renamed: Mapping[int, str]) -> Layout:
    """The visible files, by our numbers and with the engine's paths.

    `renamed` holds the other names of files that would have stood in each other's place, by the engine's numbers. The
    engine sanitises names and may move padding about, so files are matched by where they begin and how long they are,
    and empty ones by their order. Raises InvalidTorrent when that leaves one without a place.
    """
    storage = ti.layout()
    by_span: dict[tuple[int, int], list[str]] = defaultdict(list)
    empty: list[str] = []
    for index in range(storage.num_files()):
        if storage.file_flags(index) & (lt.file_storage.flag_pad_file | lt.file_storage.flag_symlink):
            continue
        size, path = storage.file_size(index), renamed.get(index) or storage.file_path(index)
        if size:
            by_span[storage.file_offset(index), size].append(path)
        else:
            empty.append(path)
    places = []
    for entry in torrent.visible:
        found = by_span[entry.offset, entry.size] if entry.size else empty
        if not found:
            raise InvalidTorrent(hint="The torrent's files cannot be laid out on disk.")
        places.append(Place(entry.index, found.pop(0), entry.offset, entry.size))
    return Layout(torrent.piece_length, places)

"""Every setting of Torz, one row each. Environment name, flag, file key, documentation and redaction follow from it."""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from torz.domain.errors import TorzError


class SettingInvalid(TorzError):
    """a setting has a value that cannot be used."""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNITS: Final = {
    "": 0,
    "b": 0,
    "k": 10,
    "kb": 10,
    "kib": 10,
    "m": 20,
    "mb": 20,
    "mib": 20,
    "g": 30,
    "gb": 30,
    "gib": 30,
}


def size(text: str) -> int:
    """A number of bytes; the units KB, MB, GB (also K, KiB, ...) are powers of two."""
    number = text.strip().rstrip("abgikmABGIKM")
    unit = text.strip()[len(number) :].lower()
    bytes = float(number) * (1 << _UNITS[unit])
    if not 0 <= bytes < 1 << 62:
        raise ValueError("a number of bytes, 0 or more, is needed")
    return int(bytes)


def switch(text: str) -> bool:
    """true or false, yes or no, on or off, 1 or 0."""
    return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}[
        text.strip().lower()
    ]


def port(text: str) -> int:
    """A TCP port; 0 takes a free one."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError("a port is between 0 and 65535")
    return number


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    number = float(text)
    if not 0 < number < 1e9:
        raise ValueError("a number of seconds above 0 is needed")
    return number


def count(text: str) -> int:
    """A whole number, 0 or more."""
    number = int(text)
    if number < 0:
        raise ValueError("a whole number, 0 or more, is needed")
    return number


def words(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def hosts(text: str) -> tuple[str, ...]:
    """A comma-separated list of addresses and host names, at least one."""
    if not words(text):
        raise ValueError("without an address nobody could reach the server")
    return words(text)


def endpoints(text: str) -> str:
    """A comma-separated list of address:port; an IPv6 address in brackets."""
    for word in words(text):
        address, _, number = word.rpartition(":")
        if not address.strip("[]") or (":" in address and not address.startswith("[")):
            raise ValueError("an address and a port are needed")
        port(number)
    if not words(text):
        raise ValueError("at least one address is needed")
    return ",".join(words(text))


def web_address(text: str) -> str:
    """An http or https address, without a query."""
    address = text.strip()
    parts = urlsplit(address)
    wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
    if address and wrong:
        raise ValueError("an address that starts with http:// or https:// is needed")
    return address


def networks_and_hosts(text: str) -> tuple[str, ...]:
    """A comma-separated list of networks (10.0.0.0/8), addresses and host names."""
    for word in words(text):
        if "/" in word:
            ipaddress.ip_network(word, strict=False)
    return words(text)


def networks(text: str) -> tuple[Network, ...]:
    """A comma-separated list of networks (10.0.0.0/8) and addresses."""
    return tuple(ipaddress.ip_network(word, strict=False) for word in words(text))


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise ValueError("one of " + ", ".join(choices) + " is needed")
        return text.strip().lower()

    parse.__doc__ = "One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    return parse


def text(value: str) -> str:
    """Text."""
    return value.strip()


def folder(value: str) -> str:
    """A folder."""
    return str(Path(value).expanduser().absolute())


def _listen_host(value: str) -> str:
    return value.rpartition(":")[0].strip("[]") or "0.0.0.0"  # noqa: S104 - the alias means just that


def _listen_port(value: str) -> str:
    return value.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: `name` is the environment variable without its prefix, in lower case."""

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str
    secret: bool = False
    aliases: tuple[tuple[str, Callable[[str], str]], ...] = ()
    """Other variables that mean the same, each with what turns its value into ours."""

    @property
    def variable(self) -> str:
        return "TORZ_" + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def _level(value: str) -> str:
    """Other programs' names for the same levels."""
    return {"trace": "debug", "warn": "warning", "fatal": "error"}.get(value.strip().lower(), value)


def _as_is(value: str) -> str:
    return value


SETTINGS: Final = (
    Setting(
        "host",
        "127.0.0.1",
        hosts,
        "The addresses that the HTTP API listens on. Only this machine can reach the default.",
        aliases=(("STREMTHRU_LISTEN_ADDR", _listen_host),),
    ),
    Setting(
        "port",
        "8679",
        port,
        "The port of the HTTP API; 0 takes a free one.",
        aliases=(("STREMTHRU_PORT", _as_is), ("STREMTHRU_LISTEN_ADDR", _listen_port)),
    ),
    Setting(
        "data_dir",
        "~/.local/share/torz",
        folder,
        "Where everything is kept: the database, the engine's state and the downloaded files.",
        aliases=(("STREMTHRU_DATA_DIR", _as_is),),
    ),
    Setting(
        "auth",
        "",
        text,
        "Who may use the server: `user:password,...`, each plain or in base64. Without it, credentials are made at the "
        "first start and shown once.",
        secret=True,
        aliases=(("STREMTHRU_AUTH", _as_is), ("STREMTHRU_PROXY_AUTH", _as_is)),
    ),
    Setting(
        "store_auth",
        "",
        text,
        "Tokens for stores: `user:store:token,...`; `*` as the user stands for everybody. The first store listed for a "
        "user is that user's default; without any it is the embedded store.",
        secret=True,
        aliases=(("STREMTHRU_STORE_AUTH", _as_is),),
    ),
    Setting(
        "base_url",
        "",
        web_address,
        "How clients reach this server from outside, such as `https://torz.example.org`. Direct links begin with it. "
        "Without it they begin with what the request was sent to.",
        aliases=(("STREMTHRU_BASE_URL", _as_is),),
    ),
    Setting(
        "trusted_proxies",
        "",
        networks,
        "Reverse proxies whose `Forwarded` and `X-Forwarded-*` headers are believed.",
    ),
    Setting(
        "torrent_file_max_size",
        "1MB",
        size,
        "The largest .torrent that is taken, uploaded or fetched (10 MB at most).",
        aliases=(("STREMTHRU_TORZ_TORRENT_FILE_MAX_SIZE", _as_is),),
    ),
    Setting(
        "fetch_allow",
        "",
        networks_and_hosts,
        "Private networks and hosts that a user's URL may lead to, such as an indexer on the local network.",
    ),
    Setting("fetch_timeout", "30", seconds, "How long fetching a user's URL may take in all, in seconds."),
    Setting(
        "stream_patience",
        "30",
        seconds,
        "How long a direct link waits for the next bytes of an unfinished download before it hangs up, in seconds.",
    ),
    Setting("check_cache", "64MB", size, "Memory for ready answers to `check`."),
    Setting(
        "engine_listen",
        "0.0.0.0:6881,[::]:6881",
        endpoints,
        "Where peers reach the engine.",
    ),
    Setting(
        "engine_allow_private",
        "false",
        switch,
        "Let the engine talk to peers, trackers and web seeds on private and loopback addresses.",
    ),
    Setting("engine_dht", "true", switch, "Find peers by the distributed hash table (never for private torrents)."),
    Setting("engine_lsd", "true", switch, "Find peers on the local network (never for private torrents)."),
    Setting("engine_pex", "true", switch, "Let peers tell of other peers (never for private torrents)."),
    Setting("engine_portmap", "false", switch, "Ask the router to open the engine's port, by UPnP and NAT-PMP."),
    Setting(
        "engine_transport",
        "both",
        one_of("both", "tcp", "utp"),
        "How peers are spoken to. `tcp` is faster on fast lines, `both` passes more routers.",
    ),
    Setting("engine_download_limit", "0", size, "Bytes per second that are downloaded in all; 0 sets no limit."),
    Setting("engine_upload_limit", "0", size, "Bytes per second that are uploaded in all; 0 sets no limit."),
    Setting("engine_connections", "500", count, "How many peers are connected at most."),
    Setting("engine_seeds", "500", count, "How many finished torrents are seeded at most, the latest used first."),
    Setting(
        "disk_reserve",
        "256MB",
        size,
        "Free space that downloads leave on the disk. When less is left they wait, and go on by themselves.",
    ),
    Setting(
        "log_level",
        "info",
        one_of("debug", "info", "warning", "error"),
        "How much is logged.",
        aliases=(("STREMTHRU_LOG_LEVEL", _level),),
    ),
    Setting(
        "log_format",
        "auto",
        one_of("auto", "text", "json"),
        "`auto` is text on a terminal and JSON elsewhere.",
        aliases=(("STREMTHRU_LOG_FORMAT", _as_is),),
    ),
    Setting("url", "", text, "Where the command line finds the server; by default the one of `data_dir`."),
)

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


class Config:
    """The settings in force, as attributes named after the rows. Printing it shows no secret."""

    def __init__(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        self._values = dict(values)
        self._texts = dict(texts)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        shown = {n: "***" if _BY_NAME[n].secret and v else v for n, v in self._values.items()}
        return f"Config({shown})"

    def environ(self) -> dict[str, str]:
        """The same settings as variables for a process of ours, which needs no secret."""
        return {_BY_NAME[name].variable: text for name, text in self._texts.items() if not _BY_NAME[name].secret}

    def masked(self) -> dict[str, str]:
        """Every setting as text, secrets hidden: what `torz doctor` and logs may show."""
        return {
            name: ("(set)" if value else "(not set)") if _BY_NAME[name].secret else _show(value)
            for name, value in self._values.items()
        }


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def load(
    environ: Mapping[str, str] | None = None,
    *,
    flags: Mapping[str, str | None] | None = None,
    file: Path | None = None,
) -> Config:
    """Read the settings: flags win over the environment, that over the file, that over the defaults.

    Raises SettingInvalid, with a sentence that names the setting, for a value that cannot be used and for a
    `TORZ_...` variable or file key that does not exist.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    named = file or (Path(environ["TORZ_CONFIG"]) if environ.get("TORZ_CONFIG") else None)
    from_file = _read_file(named) if named else {}
    chosen = {s.name: _value(s, environ, (flags or {}).get(s.name), from_file.get(s.name)) for s in SETTINGS}
    return Config(
        {name: value for name, (value, _) in chosen.items()}, {name: raw for name, (_, raw) in chosen.items()}
    )


def _value(setting: Setting, environ: Mapping[str, str], flag: str | None, from_file: str | None) -> tuple[Any, str]:
    for origin, raw in (
        (setting.flag, flag),
        *_from_environ(setting, environ),
        ("the settings file", from_file),
        ("the default", setting.default),
    ):
        if raw is not None:
            try:
                return setting.parse(raw), raw
            except (ValueError, KeyError) as exc:
                shown = "its value" if setting.secret else repr(raw)
                wanted = (setting.parse.__doc__ or "").strip()
                raise SettingInvalid(f"{setting.variable}: {shown} from {origin} cannot be used. {wanted}") from exc
    raise AssertionError(setting.name)


def _from_environ(setting: Setting, environ: Mapping[str, str]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = [(setting.variable, environ.get(setting.variable))]
    if setting.secret and (path := environ.get(setting.variable + "_FILE")):
        try:
            found.append((setting.variable + "_FILE", Path(path).read_text().strip()))
        except OSError as exc:
            raise SettingInvalid(f"{setting.variable}_FILE: {path} cannot be read: {exc.strerror}.") from exc
    for name, translate in setting.aliases:
        if name in environ:
            found.append((name, translate(environ[name])))
    return found


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = {s.variable for s in SETTINGS} | {s.variable + "_FILE" for s in SETTINGS if s.secret} | {"TORZ_CONFIG"}
    for name in environ:
        if name.startswith("TORZ_") and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise SettingInvalid(f"There is no setting {name}." + (f" Is {near[0]} meant?" if near else ""))


def _read_file(path: Path) -> dict[str, str]:
    try:
        data = tomllib.loads(path.read_text())
    except OSError as exc:
        raise SettingInvalid(f"The settings file {path} cannot be read: {exc.strerror}.") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingInvalid(f"The settings file {path} is not TOML: {exc}.") from exc
    for key in data:
        if key not in _BY_NAME:
            near = difflib.get_close_matches(key, _BY_NAME, 1)
            raise SettingInvalid(f"{path}: there is no setting {key}." + (f" Is {near[0]} meant?" if near else ""))
    return {key: _as_text(value) for key, value in data.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)

"""Whether the server is there, and how it is."""

from torz import __version__
from torz.domain.errors import CredentialsInvalid
from torz.http.origin import Origin
from torz.http.typed import Request
from torz.ports.clock import Clock
from torz.ports.node import NodeLink
from torz.services.auth import Auth
from torz.wire.shapes import Debug, DebugEngine, DebugUser, Health, print_time


class HealthHandlers:
    def __init__(self, auth: Auth, node: NodeLink, clock: Clock, origin: Origin) -> None:
        self._auth = auth
        self._node = node
        self._clock = clock
        self._origin = origin

    async def health(self, request: Request) -> Health:
        return Health("ok")

    async def debug(self, request: Request) -> Debug:
        """Time and version for everybody, the rest for users of this server."""
        answer = Debug(time=print_time(self._clock.now()), version=__version__)
        try:
            user = await self._auth.user(request.headers)
        except CredentialsInvalid:
            user = None
        if user is None:
            return answer
        names = self._auth.stores_of(user)
        answer.user = DebugUser(user, {"default": names[0], "names": names})
        answer.ip = {"client": self._origin.client(request)}
        answer.engine = self._engine()
        return answer

    def _engine(self) -> DebugEngine:
        said = self._node.vitals
        if said is None or not self._node.alive:
            return DebugEngine(False, "", 0, "The engine is not running; it is being restarted.", 0, 0, 0, 0, 0, 0)
        return DebugEngine(
            alive=True,
            name=said.engine,
            port=said.port,
            problem=said.problem,
            torrents=said.torrents,
            peers=said.peers,
            dht_nodes=said.dht_nodes,
            download_rate=said.download_rate,
            upload_rate=said.upload_rate,
            disk_free=said.disk_free,
        )

"""Our own OpenAPI document, taken at its word: schemathesis makes requests of it and holds every answer to it."""

import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live import Live
from swarm import bare_magnet, make_torrent, noise, seeding

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what others' packages warn of when they are imported is not ours to mend
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS, load_all_checks

EXAMPLES = 20
"""Requests an operation and a kind."""
TIMEOUT = 10
"""Seconds that an answer may take."""
LEFT_OUT = {
    "positive_data_acceptance": "a text that is no magnet, hash, id or link of ours is refused, and no schema can say which is",
    "ignored_auth": "without credentials the contract says 400 `missing store` first (section 18); see the next test",
}
"""Checks of schemathesis that are not made, each with its reason."""
ANN = {"X-StremThru-Authorization": "ann:ann-secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """With a torrent of bob's, which is complete whatever ann does to her torz of it."""
    folder = tmp_path_factory.mktemp("openapi")
    torrent = make_torrent(folder / "seed", {"a/b.mkv": noise(70_000), "c.srt": b"y"}, name="Pack")
    with seeding(torrent, folder / "seed") as seeds, Live(folder / "data") as live:
        live.magnet = f"{bare_magnet(torrent, *seeds)}&dn=A%20%26%20B"
        live.status(live.add(live.magnet, user="bob"), "downloaded", user="bob")
        yield live


@pytest.fixture(scope="module")
def operations(server: Live) -> list[Any]:
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


@st.composite
def cases(draw: st.DrawFn, operation: Any, mode: GenerationMode, server: Live) -> Any:
    """What the document allows, or, in the other mode, just not; now and then with values that lead somewhere."""
    case = draw(operation.as_strategy(generation_mode=mode))
    if mode is GenerationMode.POSITIVE and draw(st.booleans()):
        magnet = server.magnet
        torz = server.data_of("POST", "/v0/store/torz", {"link": magnet})
        file = draw(st.sampled_from(torz["files"]))
        token, _, name = server.link(file).partition("/v0/link/")[2].partition("/")
        real = {"id": torz["id"], "token": token, "name": name if "token" in operation.path else "500"}
        case.path_parameters = {key: value for key, value in real.items() if f"{{{key}}}" in operation.path}
        if operation.path.endswith("check"):
            case.query = {"hash" if "torz" in operation.path else "magnet": f"{torz['hash']},x"}
        if operation.method == "post":
            case.media_type = "application/json"
            case.body = {"link": file["link"] if "generate" in operation.path else magnet, "magnet": magnet}
    return case


def hold_to_its_word(operation: Any, mode: GenerationMode, server: Live) -> set[int]:
    """Make requests and check the answers. The statuses that came."""
    load_all_checks()
    left_out = [CHECKS.get_one(name) for name in LEFT_OUT]
    statuses = set()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=HealthCheck)
    @given(case=cases(operation, mode, server))
    def run(case: Any) -> None:
        answer = case.call_and_validate(headers=ANN, timeout=TIMEOUT, excluded_checks=left_out)
        statuses.add(answer.status_code)

    run()
    return statuses


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_the_document_says(
    server: Live, operations: list[Any], mode: GenerationMode, subtests: pytest.Subtests
) -> None:
    seen: dict[str, set[int]] = {}
    for operation in operations:
        label = f"{operation.method.upper()} {operation.path}"
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # nothing in it can be wrong: a path takes any text
        with subtests.test(operation=label):
            seen[label] = hold_to_its_word(operation, mode, server)
    if mode is GenerationMode.POSITIVE:
        dead = [label for label, statuses in seen.items() if not any(status < 400 for status in statuses)]
        assert dead == ["POST /v0/store/magnets/check"], "what never succeeds is not tested"
    with server.ask("GET", "/v0/health", user=None) as answer:
        assert answer.status == 200


def test_no_operation_that_asks_for_credentials_lets_strangers_in(server: Live, operations: list[Any]) -> None:
    began = time.monotonic()
    kept = [operation for operation in operations if operation.definition.raw.get("security")]
    assert len(kept) >= 15
    for operation in kept:
        path = operation.path.replace("{id}", "x")
        for headers, statuses in (({}, {400}), ({"X-StremThru-Authorization": "ann:wrong"}, {401})):
            with server.ask(operation.method.upper(), path, user=None, headers=headers) as answer:
                assert answer.status in statuses, (operation.method, path, answer.read())
    assert time.monotonic() - began < TIMEOUT

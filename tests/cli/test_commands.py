"""The torz command, as a program and as functions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torz.cli import COMMANDS, main
from torz.cli.output import clean, size


def torz(*arguments: str, data: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORZ_")}
    return subprocess.run(
        [sys.executable, "-m", "torz", *arguments],
        env={**inherited, "TORZ_DATA_DIR": str(data), "TORZ_PORT": "1", **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: torz" in capsys.readouterr().out


def test_help_lists_every_command_without_loading_them(tmp_path: Path) -> None:
    loaded = "print(sorted(m for m in sys.modules if m in ('aiohttp', 'rich', 'uvicorn')))"
    code = f"import sys; from torz.cli import main; main(['--help']); {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert all(command in done.stdout for command in COMMANDS)


def test_no_server_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    for command in (["ls"], ["show", "x"], ["check", "f" * 40], ["get", "x"], ["add", "f" * 40]):
        done = torz(*command, data=tmp_path)
        assert done.returncode == 1, command
        assert "Traceback" not in done.stderr
        assert "torz serve" in (done.stderr + done.stdout).replace("\n", " ")


def test_a_wrong_use_is_exit_code_2(tmp_path: Path) -> None:
    for arguments in (["nonsense"], ["add"], ["show"], ["ls", "--limit", "x"], ["add", "missing.torrent"]):
        done = torz(*arguments, data=tmp_path)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"TORZ_PORT": "http"}, "TORZ_PORT"),
        ({"TORZ_PROT": "1"}, "Is TORZ_PORT meant?"),
        ({"TORZ_AUTH": "nonsense"}, "TORZ_AUTH has no user"),
        ({"TORZ_STORE_AUTH": "a:nope:t"}, "store that does not exist"),
        ({"TORZ_CONFIG": "/nowhere.toml"}, "cannot be read"),
    ],
)
def test_a_wrong_setting_is_a_sentence_that_names_it(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    done = torz("serve", data=tmp_path, **environ)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_finds_what_is_wrong_and_says_what_to_do(tmp_path: Path) -> None:
    done = torz("doctor", "--json", data=tmp_path)
    findings = {one["what"]: one for one in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert findings["Python"]["well"]
    assert not findings["Server"]["well"]
    assert "torz serve" in findings["Server"]["said"]
    blocked = torz("doctor", data=tmp_path, TORZ_PORT="nonsense")
    assert "TORZ_PORT" in blocked.stdout


def test_the_version_is_told(tmp_path: Path) -> None:
    assert torz("--version", data=tmp_path).stdout.startswith("torz, version ")


def test_hostile_names_cannot_steer_the_terminal() -> None:
    shown = clean("a\x1b[2J\u202eb[red]\r\n")
    assert not set(shown) & set("\x1b\u202e\r\n")
    assert "\\[red]" in shown


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (None, 0, 999, 1000, 1_500_000, 2_000_000_000, 3 * 10**12)] == [
        "?", "0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3.00 TB",
    ]  # fmt: skip

"""The demo, as a newcomer runs it: twice in one folder, and with what cannot work."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flowstack.processes import descendants, free_port
from flowstack.stack import Stack


@pytest.fixture(scope="module")
def data_dir(stack: Stack) -> Path:
    return stack.folder / "demo"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "flowmaps", "demo", "--no-install", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=170, check=False)


def test_the_demo_checks_itself_and_a_second_run_adds_nothing(stack: Stack) -> None:
    data_dir = stack.folder / "demo-twice"
    first = run("--once", "--data-dir", data_dir, "--port", free_port())
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"stored .* 26143/26143", first.stdout)
    assert "CC BY 4.0" in first.stdout
    for step in ("token", "map", "png", "grid", "vector tile"):
        assert re.search(rf"^ok +{step} +\d+ ms", first.stdout, re.MULTILINE), step
    second = run("--once", "--data-dir", data_dir, "--port", free_port())
    assert second.returncode == 0, second.stdout + second.stderr
    assert "26143 datapoints of 2 tenants are there from an earlier run" in second.stdout
    assert "stored" not in second.stdout
    # Nothing changed, so that the map still has the address that it had.
    assert _map_of(first.stdout).split(":")[0] == _map_of(second.stdout).split(":")[0]


def _map_of(output: str) -> str:
    found = re.search(r"^Map: +(\S+)$", output, re.MULTILINE)
    assert found, output
    return found[1].split("#")[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stays_up_until_it_is_asked_to_stop_and_leaves_nothing_behind(
    data_dir: Path, number: signal.Signals
) -> None:
    port = free_port()
    process = subprocess.Popen(
        command("--data-dir", data_dir, "--port", port), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output = ""
        assert process.stdout
        for line in process.stdout:
            output += line
            if "Ctrl-C" in line:
                break
        assert f"http://127.0.0.1:{port}/viewer/#" in output, output
        assert httpx.get(f"http://127.0.0.1:{port}/viewer/", timeout=10).status_code == 200
        children = [pid for pid, _ in descendants(process.pid)]
        assert len(children) >= 4
        os.kill(process.pid, number)
        assert process.wait(40) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in children if _lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_a_port_that_is_taken_is_said_to_be(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("--once", "--data-dir", data_dir, "--port", port)
    assert ended.returncode == 2
    assert f"error: port {port} is not free" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_cannot_be_written_is_said_to_be() -> None:
    ended = run("--once", "--data-dir", "/proc/nowhere")
    assert ended.returncode == 2
    assert "error: " in ended.stderr
    assert "/proc/nowhere" in ended.stderr
    assert "Traceback" not in ended.stderr

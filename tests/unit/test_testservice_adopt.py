"""The daemon's way to its service: adopt the one that runs, else start one; never two."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys

import httpx
import psutil
import pytest

from batch_inferd.seams.clock import SystemClock
from batch_inferd.testing import adopt
from batch_inferd.testing.adopt import CONTROLS_VARIABLE, TestServiceUnavailable, ensure_running
from batch_inferd.testing.process import start_service
from batch_inferd.testing.state import LOCK_NAME, make_lock, make_state_dir, read_beacon

START = """
import asyncio, pathlib, sys
from batch_inferd.seams.clock import SystemClock
from batch_inferd.testing.adopt import ensure_running
sys.stdin.readline()
print(asyncio.run(ensure_running(pathlib.Path(sys.argv[1]), SystemClock())))
"""


class ImpatientClock:
    """A clock on which every sleep passes at once."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
def state(tmp_path):
    directory = tmp_path / "service"
    yield directory
    end(directory)


def end(directory):
    """End whatever serves the directory, and wait for it."""
    beacon = read_beacon(directory)
    if beacon is None:
        return
    try:
        process = psutil.Process(beacon.pid)
        if process.create_time() == beacon.started:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    except psutil.NoSuchProcess:
        return


def controls_of(base_url):
    return httpx.get(f"{base_url.removesuffix('/v1')}/_control", trust_env=False).json()["controls"]


async def test_a_service_is_started_once_and_adopted_ever_after(state, monkeypatch):
    monkeypatch.delenv(CONTROLS_VARIABLE, raising=False)
    base_url = await ensure_running(state, SystemClock())
    pid = read_beacon(state).pid
    assert base_url == f"http://127.0.0.1:{read_beacon(state).port}/v1"
    assert controls_of(base_url)["latency_ms"] == [20, 80]
    assert await ensure_running(state, SystemClock()) == base_url
    assert read_beacon(state).pid == pid


async def test_a_proxy_is_not_asked(state, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    base_url = await ensure_running(state, SystemClock())
    assert await ensure_running(state, SystemClock()) == base_url


async def test_the_environment_may_bring_controls(state, monkeypatch):
    monkeypatch.setenv(CONTROLS_VARIABLE, '{"rpm": 600}')
    controls = controls_of(await ensure_running(state, SystemClock()))
    assert (controls["rpm"], controls["latency_ms"]) == (600, 0)


async def test_controls_that_make_no_sense_are_an_error_with_the_reason(state, monkeypatch):
    monkeypatch.setenv(CONTROLS_VARIABLE, '{"rmp": 600}')
    with pytest.raises(TestServiceUnavailable, match="unknown controls: rmp; known") as refused:
        await ensure_running(state, SystemClock())
    assert refused.value.exit_code == 4
    assert "service.log" in str(refused.value.hints[0])


async def test_a_killed_service_is_replaced_on_its_port(state):
    base_url = await ensure_running(state, SystemClock())
    killed = psutil.Process(read_beacon(state).pid)
    killed.kill()
    killed.wait(20)
    assert await ensure_running(state, SystemClock()) == base_url
    assert read_beacon(state).pid != killed.pid


async def test_a_service_started_by_hand_is_adopted(state):
    with start_service(state, {"seed": 5}) as service:
        assert await ensure_running(state, SystemClock()) == service.base_url
        assert controls_of(service.base_url)["seed"] == 5


def test_daemons_that_start_at_once_share_one_service(state):
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    urls = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert urls == {read_beacon(state).base_url}
    assert all(starter.returncode == 0 for starter in starters)
    assert httpx.get(f"{urls.pop()}/models", headers={"api-key": "k"}, trust_env=False).status_code == 200
    assert (state / "service.log").read_text().count(" serving ") == 1


async def test_the_service_outlives_who_started_it(state):
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, str(state), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    base_url = (await asyncio.wait_for(starter.communicate(b"go\n"), 60))[0].decode().strip()
    pid = read_beacon(state).pid
    if sys.platform != "win32":
        assert os.getsid(pid) == pid
    assert await ensure_running(state, SystemClock()) == base_url
    assert read_beacon(state).pid == pid


async def test_it_ends_when_idle(state):
    await ensure_running(state, SystemClock(), idle_exit_s=0.2)
    process = psutil.Process(read_beacon(state).pid)
    await asyncio.to_thread(process.wait, 30)


async def test_a_lock_without_an_answer_is_told_and_not_stolen(state):
    make_state_dir(state)
    lock = make_lock(state, LOCK_NAME)
    with lock, pytest.raises(TestServiceUnavailable, match="and nothing answers"):
        await ensure_running(state, ImpatientClock())
    assert read_beacon(state) is None


async def test_a_stranger_on_the_port_is_not_adopted(state):
    with start_service(state.parent / "other") as other, start_service(state) as service:
        beacon = (state / "service.json").read_bytes()
        own, others = str(service.port).encode(), str(other.port).encode()
        (state / "service.json").write_bytes(beacon.replace(own, others))
        with pytest.raises(TestServiceUnavailable, match=f"process {service.pid} holds .* does not answer"):
            await ensure_running(state, ImpatientClock())
        (state / "service.json").write_bytes(beacon)
        assert await ensure_running(state, SystemClock()) == service.base_url


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pid": "x"}'])
async def test_a_damaged_beacon_is_no_beacon(state, content):
    make_state_dir(state)
    (state / "service.json").write_bytes(content)
    assert read_beacon(state) is None


async def test_a_start_that_takes_too_long_is_ended(state, monkeypatch):
    started = []

    def sleeper(state_dir, **_):
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        return started[0]

    monkeypatch.setattr(adopt, "spawn", sleeper)
    make_state_dir(state)
    with pytest.raises(TestServiceUnavailable, match="before it was ready"):
        await ensure_running(state, ImpatientClock())
    assert not psutil.pid_exists(started[0].pid)


def _hold(directory, held, done):
    with make_lock(directory, "service.start.lock"):
        held.set()
        done.wait(60)


async def test_a_starter_that_takes_for_ever_is_told(state):
    make_state_dir(state)
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(state, held, done))
    holder.start()
    try:
        assert await asyncio.to_thread(held.wait, 60)
        with pytest.raises(TestServiceUnavailable, match="starting it for too long"):
            await ensure_running(state, ImpatientClock())
    finally:
        done.set()
        await asyncio.to_thread(holder.join, 60)

"""The life of the service's process: one a directory, ended by SIGTERM or idleness, back on its port."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from batch_infer.version import __version__
from batch_inferd.testing.process import start_service
from batch_inferd.testing.spawn import LOG_NAME, SpawnError
from batch_inferd.testing.state import BEACON_NAME, read_beacon

COMMAND = [sys.executable, "-m", "batch_inferd.testing"]


def answers(base_url):
    try:
        return httpx.get(f"{base_url}/models", headers={"api-key": "k"}, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_service_listens_and_publishes_itself(tmp_path):
    state = tmp_path / "deep" / "service"
    with start_service(state) as service:
        assert answers(service.base_url)
        beacon = read_beacon(state)
        assert (beacon.pid, beacon.base_url, beacon.port) == (service.pid, service.base_url, service.port)
        assert beacon.version == __version__
        assert beacon.started == psutil.Process(service.pid).create_time()
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        for name in (BEACON_NAME, LOG_NAME, "service.lock", "ledger.db", "ledger.db-wal"):
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
    assert not answers(service.base_url)
    assert not psutil.pid_exists(service.pid)


async def test_as_an_asynchronous_context(tmp_path):
    async with start_service(tmp_path) as service:
        assert answers(service.base_url)
    assert not answers(service.base_url)


def test_it_comes_back_on_its_port_after_stop_and_kill(tmp_path):
    with start_service(tmp_path) as first:
        first.stop()
        with start_service(tmp_path) as second:
            assert second.port == first.port
            second.kill()
            with start_service(tmp_path) as third:
                assert third.port == first.port
                assert third.pid != second.pid
                assert answers(first.base_url)


def test_it_takes_another_port_when_its_own_is_taken(tmp_path):
    with start_service(tmp_path) as first:
        port = first.port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with start_service(tmp_path) as second:
            assert second.port != port
        with pytest.raises(SpawnError, match=f"cannot listen on 127.0.0.1:{port}"):
            start_service(tmp_path, port=port)


def test_one_service_a_directory(tmp_path):
    with start_service(tmp_path) as service:
        with pytest.raises(SpawnError, match=f"served by process {service.pid} at http") as refused:
            start_service(tmp_path)
        assert refused.value.held
        assert answers(service.base_url)


def test_sigterm_lets_a_request_end(tmp_path):
    with start_service(tmp_path, {"latency_ms": 300}) as service, ThreadPoolExecutor() as threads:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        url = f"{service.base_url}/chat/completions"
        call = threads.submit(httpx.post, url, json=body, headers={"api-key": "k"}, trust_env=False)
        deadline = time.monotonic() + 30
        while not service.ledger():
            assert time.monotonic() < deadline
        service.stop()
        assert call.result(30).status_code == 200
    assert [row.delivered for row in service.ledger()] == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
def test_it_may_hold_more_than_1024_connections(tmp_path):
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with start_service(tmp_path) as service:
        soft, _ = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        assert soft >= min(10_240, hard)


def test_sigterm_cuts_a_hanging_request(tmp_path):
    with start_service(tmp_path, {"rules": [{"contains": "hang", "do": "hang"}]}) as service:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hang"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            deadline = time.monotonic() + 30
            while service.summary().by_outcome != {"hung": 1}:
                assert time.monotonic() < deadline
            service.stop()
            assert connection.recv(100) == b""
    log = (tmp_path / LOG_NAME).read_text()
    assert "ended" in log
    assert "Traceback" not in log


def test_controls_that_make_no_sense_do_not_start(tmp_path):
    with pytest.raises(SpawnError, match="unknown controls: eror; known"):
        start_service(tmp_path, {"eror": 1})


def test_a_child_that_dies_without_a_word_is_told_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "nowhere"))
    with pytest.raises(SpawnError, match="before it was ready\n"):
        start_service(tmp_path / "service")


def test_the_service_does_not_catch_the_daemons_planned_faults(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", "write:=28")
    with start_service(tmp_path) as service:
        assert answers(service.base_url)


def test_by_hand_it_prints_its_url_and_ends_when_idle(tmp_path):
    command = [*COMMAND, "--state", str(tmp_path), "--idle-exit", "0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        base_url = process.stdout.readline().strip()
        assert answers(base_url)
        assert process.wait(30) == 0
        assert "no request for 0.3 s" in process.stderr.read()
    assert read_beacon(tmp_path).base_url == base_url


def test_a_request_under_way_keeps_it_from_ending(tmp_path):
    command = [*COMMAND, "--state", str(tmp_path), "--idle-exit", "0.2", "--controls", '{"latency_ms": 700}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        url = f"{process.stdout.readline().strip()}/chat/completions"
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        response = httpx.post(url, json=body, headers={"api-key": "k"}, trust_env=False, timeout=30)
        assert response.status_code == 200
        assert process.wait(30) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example"])
def test_it_serves_this_machine_only(tmp_path, host):
    done = subprocess.run(
        [*COMMAND, "--state", str(tmp_path), "--host", host],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_state_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [*COMMAND, "--state", str(tmp_path / "file")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert os.path.isfile(tmp_path / "file")


def test_it_ends_when_its_state_directory_is_removed(tmp_path):
    service = start_service(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    assert service._process.wait(20) == 0
    service._client.close()

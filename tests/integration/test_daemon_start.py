"""Reaching and starting the daemon: one a workspace, whatever lies around, and a clear word if it fails."""

import json
import os
import socket
import subprocess
import sys

import psutil
import pytest
from life_kit import HERE, end

from batch_infer import connection, launch
from batch_infer.protocol import beacon, locks
from batch_infer.protocol.errors import ConfigError, DaemonUnavailable, InternalError
from batch_infer.protocol.transport import unix
from harness import wait_for

CLIENTS = 20


def test_twenty_clients_at_once_get_one_daemon_and_all_are_served(place):
    clients = [
        subprocess.Popen(
            [sys.executable, str(HERE / "fake_client.py"), str(place.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    for client in clients:
        assert client.stdout.readline() == "at the barrier\n"
    for client in clients:
        client.stdin.write("\n")
        client.stdin.flush()
    answers = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
    pid = place.beacon().pid
    assert answers == [{"pid": pid, "answered_by": pid}] * CLIENTS
    assert place.lines("submitted") == [str(pid)] * CLIENTS
    assert place.lines("started") == [str(pid)]
    assert [process.pid for process in place.daemons()] == [pid]


def test_the_daemon_stands_on_its_own(place):
    with place.start() as first:
        process = psutil.Process(first.pid)
        assert os.getsid(first.pid) == first.pid
        assert process.cwd() == str(place.root)
        assert process.terminal() is None
        assert os.readlink(f"/proc/{first.pid}/fd/0") == "/dev/null"
        for fd in (1, 2):
            assert os.readlink(f"/proc/{first.pid}/fd/{fd}").endswith("/logs/daemon.out.log")
        assert place.workspace.beacon.stat().st_mode & 0o777 == 0o600
        assert place.beacon().process_started
        assert first.call("daemon.status")["extra"] == "of the application"


def test_status_says_where_and_since_when(place):
    with place.start() as first:
        status = first.call("daemon.status")
        assert status["pid"] == first.pid
        assert status["workspace"] == str(place.root)
        assert status["protocol"] == [1, 1]
        assert status["endpoint"] == place.beacon().endpoint
        assert status["busy"] is False
        assert status["started"] == first.started
        first.call("submit")
        assert first.call("daemon.status")["busy"] is True


def test_the_open_file_limit_is_raised(place, monkeypatch):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with place.start() as first:
            limits = psutil.Process(first.pid).rlimit(psutil.RLIMIT_NOFILE)
            assert limits == (min(hard, 65_536) if hard > 0 else 65_536, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_proxies_of_the_starting_shell_are_not_the_daemons(place, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    with place.start() as first:
        environ = psutil.Process(first.pid).environ()
        assert not [name for name in environ if name.lower().endswith("_proxy")]
        assert environ["SOMETHING_ELSE"] == "1"


def test_modules_in_the_workspace_are_not_imported(place):
    for name in ("json", "asyncio", "batch_inferd", "psutil"):
        (place.root / f"{name}.py").write_text("raise SystemExit('taken from the workspace')")
    with place.start() as first:
        assert first.call("list")["pid"] == first.pid


def test_a_running_daemon_is_used_without_any_lock(place, monkeypatch):
    first = place.start()
    monkeypatch.setattr(locks, "acquire", None)
    for again in (place.start(), place.existing()):
        assert again.pid == first.pid
        again.close()
    first.close()


def test_where_none_runs_there_is_none(place):
    assert place.existing() is None
    first = place.start()
    first.close()
    end(first.pid)
    assert place.existing() is None


def test_after_kill_9_the_next_client_starts_another(place):
    with place.start() as first:
        end(first.pid)
        with pytest.raises(DaemonUnavailable, match="ended, or closed the connection"):
            first.call("list")
    assert place.beacon().pid == first.pid  # stale, with a stale socket
    assert os.path.exists(place.beacon().endpoint.removeprefix("unix:"))
    with place.start() as second:
        assert second.pid != first.pid
        assert second.call("list")["pid"] == second.pid
        assert place.beacon().pid == second.pid


@pytest.mark.parametrize(
    "endpoint",
    [
        "unix:/nowhere/x.sock",
        "unix:/" + "x" * 300,
        "unix:relative",
        "unix:/dev/null",
        "unix:/dev/null/x",
        "tcp:127.0.0.1:1",
        "pipe:x",
        "",
    ],
    ids=lambda endpoint: endpoint[:20],
)
def test_a_forged_beacon_with_pid_1_hinders_nobody(place, endpoint):
    forged = beacon.Beacon(1, "ticks:1", socket.gethostname(), beacon.boot_id(), (1, 1), "9", endpoint, "s")
    beacon.write(place.workspace.beacon, forged)
    with place.start() as first:
        assert first.call("list")["pid"] == first.pid
    assert place.beacon().pid == first.pid
    assert psutil.pid_exists(1)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\0" * 100, b"[" * 100_000], ids=["empty", "torn", "zeros", "deep"]
)
def test_a_broken_beacon_hinders_nobody(place, content):
    place.workspace.beacon.write_bytes(content)
    with place.start() as first:
        assert first.call("list")["pid"] == first.pid


def test_a_socket_that_somebody_accepts_and_closes_hinders_nobody(place):
    """EOF before hello, as from a daemon that is just ending."""
    with socket.socket(socket.AF_UNIX) as other:
        path = unix.socket_path(place.root)
        other.bind(path)
        other.listen()
        other.settimeout(30)
        beacon.write(place.workspace.beacon, beacon.of_this_process(f"unix:{path}", "s", (1, 1), "0"))
        import threading

        def close_all():
            while True:
                try:
                    other.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=close_all, daemon=True).start()
        with place.start() as first:
            assert place.beacon().endpoint != f"unix:{path}"
            assert first.call("list")["pid"] == first.pid
        other.shutdown(socket.SHUT_RDWR)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_beacon_of_another_users_daemon_hinders_nobody(place, short_tmp):
    """As after copying a workspace: its daemon is not ours, and hears nothing of us."""
    short_tmp.chmod(0o777)
    code = """
import os, socket, sys
os.setuid(12345)
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
print("ready", flush=True)
print(len(s.accept()[0].recv(1000)), flush=True)
"""
    theirs = subprocess.Popen(
        [sys.executable, "-c", code, f"{short_tmp}/theirs"], stdout=subprocess.PIPE, text=True
    )
    assert theirs.stdout.readline() == "ready\n"
    forged = beacon.of_this_process(f"unix:{short_tmp}/theirs", "s", (1, 1), "0")
    beacon.write(place.workspace.beacon, forged)
    short_tmp.chmod(0o700)
    with place.start() as first:
        assert first.call("list")["pid"] == first.pid
    assert theirs.communicate(timeout=20)[0] == "0\n"


class TestWhenTheWorkspaceIsHeld:
    @pytest.fixture
    def held(self, place):
        lock = locks.acquire(place.workspace.lock)
        yield lock
        lock.release()

    def test_a_forged_beacon_is_not_believed(self, place, held):
        forged = beacon.of_this_process("unix:/nowhere", "s", (1, 1), "0")._replace(pid=1)
        beacon.write(place.workspace.beacon, forged)
        with pytest.raises(DaemonUnavailable, match="which one is unknown, holds") as caught:
            place.start(timeout=0.3)
        assert caught.value.exit_code == 4
        assert "1)" not in str(caught.value)
        assert place.daemons() == []

    def test_a_true_one_names_the_process(self, place, held):
        beacon.write(place.workspace.beacon, beacon.of_this_process("unix:/nowhere", "s", (1, 1), "0"))
        with pytest.raises(DaemonUnavailable, match=rf"\(process {os.getpid()}\) holds"):
            place.start(timeout=0.3)

    def test_one_that_is_ending_is_waited_for(self, place, held):
        ending = beacon.of_this_process("unix:/nowhere", "s", (1, 1), "0", stopping=True)
        beacon.write(place.workspace.beacon, ending)
        with pytest.raises(DaemonUnavailable, match="is ending"):
            place.start(timeout=0.3)
        import threading

        threading.Timer(0.3, held.release).start()
        with place.start() as first:
            assert first.call("list")

    def test_a_second_daemon_is_refused(self, place):
        with place.start() as first:
            second = place.run_foreground("--foreground")
            _, said = second.communicate(timeout=30)
            assert second.returncode == 4
            assert f"a daemon (process {first.pid}) already runs in the workspace {place.root}" in said
            assert first.call("list")["pid"] == first.pid
            assert place.beacon().pid == first.pid


class TestWhenItDoesNotStart:
    def test_its_own_error_arrives_with_class_and_hints(self, place):
        place.make("fail-constructor")
        with pytest.raises(ConfigError, match="the thing X is broken") as caught:
            place.start()
        assert [str(hint) for hint in caught.value.hints] == ["mend it"]
        assert place.beacon() is None
        (place.root / "fail-constructor").unlink()
        place.start().close()

    def test_without_any_word_the_log_speaks(self, place, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(place.root))
        (place.root / "fake_daemon.py").write_text("import sys; sys.exit('no such luck')")
        with pytest.raises(DaemonUnavailable, match="ended before it was ready: no such luck") as caught:
            place.start()
        assert "daemon.out.log" in str(caught.value.hints[0])

    def test_one_that_takes_too_long_is_named_by_its_phase(self, place, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(place.root))
        (place.root / "fake_daemon.py").write_text("import time; time.sleep(60)")
        with pytest.raises(DaemonUnavailable, match="while the daemon was starting") as caught:
            place.start(timeout=0.5)
        assert caught.value.exit_code == 4

    def test_another_starter_that_takes_too_long_is_named(self, place):
        lock = locks.acquire(place.workspace.start_lock)
        with pytest.raises(DaemonUnavailable, match="while another client was starting the daemon"):
            place.start(timeout=0.2)
        lock.release()

    def test_a_bug_is_told(self, place, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(place.root))
        (place.root / "fake_daemon.py").write_text(
            "import sys\nfrom batch_inferd.main import main\n"
            "def make(*args): raise ZeroDivisionError('oh')\nsys.exit(main(make_app=make))"
        )
        with pytest.raises(InternalError, match="could not start: ZeroDivisionError: oh"):
            place.start()
        assert "Traceback" in place.log()

    def test_a_workspace_that_cannot_be_written(self, place, monkeypatch):
        def acquire(path, timeout=0.0):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(locks, "acquire", acquire)
        with pytest.raises(DaemonUnavailable, match="cannot be locked: Permission denied"):
            place.start()

    def test_a_failed_recovery_ends_the_daemon_with_a_trace(self, place):
        place.make("slow-start")
        place.make("fail-start")
        with place.start() as first:
            process = psutil.Process(first.pid)
            place.make("go-on")
            assert first.wait_closed(20)
            process.wait(20)
        assert "OSError: the recovery failed" in place.log()
        assert place.lines("stopped") == [str(first.pid)]
        assert place.existing() is None


def test_ready_comes_before_recovery_and_requests_wait_for_it(place):
    place.make("slow-start")
    with place.start() as first:
        assert place.lines("started") == []
        assert first.call("daemon.status")["pid"] == first.pid
        with pytest.raises(DaemonUnavailable, match="did not answer list within"):
            first.call("list", timeout=0.1)
        place.make("go-on")
        assert first.call("list")["pid"] == first.pid


def test_a_daemon_that_hangs_is_named(place):
    import signal

    with place.start() as first:
        os.kill(first.pid, signal.SIGSTOP)
        with pytest.raises(
            DaemonUnavailable, match=rf"\(process {first.pid}\) took the connection, but said nothing"
        ):
            place.existing(timeout=0.2)
        os.kill(first.pid, signal.SIGCONT)
        assert first.call("list")["pid"] == first.pid


def test_a_stale_secret_is_healed(place, moving_clock, monkeypatch):
    """The beacon of an earlier daemon, whose socket has the same name."""
    with place.start() as first:
        true = place.beacon()
        beacon.write(place.workspace.beacon, true._replace(secret="old"))
        with pytest.raises(connection.NoAnswerError):
            connection.Connection.open(place.beacon(), timeout=5)
        real = launch.time.sleep

        def sleep(seconds):
            place.advance(6)  # the watch writes its beacon again
            real(seconds)

        monkeypatch.setattr(launch.time, "sleep", sleep)
        with place.start() as second:
            assert second.pid == first.pid
        assert place.beacon() == true


def test_a_foreground_daemon_serves_and_logs_to_stderr(place):
    process = place.run_foreground("--foreground")
    wait_for(place.existing, "the daemon").close()
    with place.start() as first:
        assert first.pid == process.pid
        first.call("daemon.stop")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "a client asked for it: the daemon ends" in said
    assert f"the daemon of {place.root} runs here; Ctrl-C ends it" in said


def test_a_foreground_daemon_tells_its_errors_in_the_language_of_the_shell(place, monkeypatch):
    monkeypatch.setenv("BATCH_INFER_LANG", "zh")
    with place.start():
        second = place.run_foreground("--foreground")
        _, said = second.communicate(timeout=30)
    assert second.returncode == 4
    assert "错误：工作区" in said
    assert "提示：可直接使用它，或先停止它：batch_infer -daemon stop" in said

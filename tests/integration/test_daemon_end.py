"""How the daemon ends: asked to, idle, or with its workspace gone; and what it survives."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading

import psutil
import pytest
from life_kit import end

from batch_infer.protocol import beacon, locks
from batch_infer.protocol.errors import DaemonUnavailable
from harness import wait_for

IDLE_S = 100.0


@pytest.fixture
def idle(moving_clock, monkeypatch):
    """A place whose daemons end after 100 s of nothing, by a clock that the test moves."""
    monkeypatch.setenv("BATCH_INFER_IDLE_EXIT_S", str(IDLE_S))
    return moving_clock


def gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(20)
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "daemon.stop"])
def test_it_drains_persists_and_leaves_nothing_but_its_locks(place, how):
    with place.start() as first:
        path = place.beacon().endpoint.removeprefix("unix:")
        if how == "daemon.stop":
            assert first.call("daemon.stop") == {"stopping": True}
        else:
            os.kill(first.pid, getattr(signal, how))
        assert first.wait_closed(20)
        assert gone(first.pid)
        assert place.lines("drained") == place.lines("stopped") == [str(first.pid)]
    assert not os.path.exists(path)
    assert not place.workspace.beacon.exists()
    assert place.workspace.lock.exists()
    assert place.workspace.start_lock.exists()
    with place.start() as second:
        assert second.pid != first.pid


def test_while_it_drains_the_door_is_shut_and_the_next_client_waits(place):
    place.make("slow-drain")
    first = place.start()
    os.kill(first.pid, signal.SIGTERM)
    place.wait_for_file("draining")
    # Who is connected is served on; nobody else gets in, and hears why.
    assert first.call("list")["pid"] == first.pid
    assert place.existing() is None
    assert place.beacon().stopping
    with pytest.raises(DaemonUnavailable, match=rf"\(process {first.pid}\) is ending"):
        place.start(timeout=0.3)
    found = []
    waiting = threading.Thread(target=lambda: found.append(place.start()))
    waiting.start()
    place.make("go-on")
    waiting.join(30)
    assert found[0].pid != first.pid
    assert gone(first.pid)
    for connection in (first, *found):
        connection.close()


def test_the_second_signal_ends_at_once(place):
    place.make("slow-drain")
    process = place.run_foreground("--foreground")
    wait_for(place.existing, "the daemon").close()
    process.send_signal(signal.SIGTERM)
    place.wait_for_file("draining")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert place.lines("drained") == []
    (place.root / "slow-drain").unlink()
    place.start().close()


def test_a_thread_that_hangs_does_not_keep_it_for_ever(place):
    def ask(connection):
        with contextlib.suppress(DaemonUnavailable):
            connection.call("hang")

    with place.start() as first, place.start() as other:
        hanging = threading.Thread(target=ask, args=[other])
        hanging.start()
        place.wait_for_file("hanging")
        first.call("daemon.stop")
        assert first.wait_closed(20)
        assert place.beacon() is None or place.beacon().stopping, "who comes is told that it ends"
        assert gone(first.pid)
        hanging.join(20)
    assert place.lines("drained") == [str(first.pid)]
    out = (place.workspace.logs / "daemon.out.log").read_text()
    assert "Timeout" in out
    assert "in hang" in out or "in wait" in out
    with place.start() as second:
        assert second.pid != first.pid


def test_a_stop_in_the_midst_of_the_recovery(place):
    place.make("slow-start")
    with place.start() as first:
        first.call("daemon.stop")
        assert first.wait_closed(20)
    assert gone(first.pid)
    assert place.lines("started") == []
    assert place.lines("stopped") == [str(first.pid)]


class TestIdleExit:
    def test_after_the_limit_it_ends_and_the_next_client_starts_another(self, idle):
        first = idle.start()
        first.close()
        idle.advance(IDLE_S + 20)
        assert gone(first.pid)
        assert idle.lines("drained") == [], "there was nothing to drain"
        assert idle.lines("stopped") == [str(first.pid)]
        assert not idle.workspace.beacon.exists()
        assert "nothing to do any more" in idle.log()
        with idle.start() as second:
            assert second.pid != first.pid

    def test_not_while_a_task_is_unfinished(self, idle):
        with idle.start() as first:
            first.call("submit")
            for _ in range(3):
                idle.advance(IDLE_S * 10)
                assert first.call("list")["pid"] == first.pid
            idle.make("finished")
            wait_for(lambda: idle.advance(IDLE_S / 4) or not psutil.pid_exists(first.pid), "the end")

    def test_not_while_a_request_runs_and_not_soon_after(self, idle):
        with idle.start() as first, idle.start() as second:
            thread = threading.Thread(target=lambda: first.call("wait"))
            thread.start()
            idle.wait_for_file("waiting")
            idle.advance(IDLE_S * 10)
            assert second.call("daemon.status")["pid"] == first.pid
            idle.make("go-on")
            thread.join(20)
            assert second.call("list")["pid"] == first.pid

    def test_not_while_a_client_has_the_start_lock(self, idle):
        with idle.start() as first:
            lock = locks.acquire(idle.workspace.start_lock)
            idle.advance(IDLE_S * 10)
            for _ in range(20):
                assert first.call("daemon.status")["pid"] == first.pid
            assert os.path.exists(idle.beacon().endpoint.removeprefix("unix:"))
            lock.release()

    def test_a_client_that_submits_in_the_last_moment_keeps_it(self, idle):
        """Connected before the door shut; the submit comes while the daemon waits for its last clients."""
        first = idle.start()
        path = idle.beacon().endpoint.removeprefix("unix:")
        stop = threading.Event()

        def push():
            while not stop.wait(0.005):
                if not os.path.exists(path):
                    return  # the door is shut; its 5 s of grace do not pass by themselves that fast
                idle.advance(1)

        pusher = threading.Thread(target=push)
        pusher.start()
        wait_for(lambda: not os.path.exists(path), "the shut door")
        answer = first.call("submit")
        stop.set()
        pusher.join()
        assert answer["pid"] == first.pid
        idle.advance(10)
        wait_for(lambda: os.path.exists(path), "the open door")
        with idle.start() as second:
            assert second.pid == first.pid
        assert "a task came in the last moment" in idle.log()
        first.close()

    def test_submitting_clients_against_idle_exits(self, idle, monkeypatch):
        """Whenever they come, every submit is answered, by the one daemon that lives then."""
        monkeypatch.setenv("BATCH_INFER_IDLE_EXIT_S", "0.3")
        pids = set()
        idle.make("finished")  # each submit is finished at once: the daemon is never busy
        for n in range(12):
            with idle.start() as connection:
                pids.add(connection.call("submit")["pid"])
            if n % 3 == 2:
                idle.advance(0.3 * n)
        assert len(idle.lines("submitted")) == 12
        assert len(idle.daemons()) <= 1
        assert pids == {int(pid) for pid in idle.lines("submitted")}

    def test_in_the_foreground_only_if_the_environment_says_so(self, idle, monkeypatch):
        monkeypatch.delenv("BATCH_INFER_IDLE_EXIT_S")
        process = idle.run_foreground("--foreground")
        wait_for(idle.existing, "the daemon").close()
        for _ in range(5):
            idle.advance(86_400)
            idle.existing().close()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)

    def test_the_application_may_choose_the_limit(self, idle, monkeypatch):
        monkeypatch.delenv("BATCH_INFER_IDLE_EXIT_S")
        with idle.start() as first:
            idle.advance(1000)  # the usual limit is 1800 s
            assert first.call("list")["pid"] == first.pid
            idle.make("short-idle")
            idle.advance(500)
            assert first.wait_closed(20), idle.log()
            assert gone(first.pid)

    def test_nonsense_in_the_environment_is_said(self, idle, monkeypatch):
        monkeypatch.setenv("BATCH_INFER_IDLE_EXIT_S", "soon")
        with idle.start() as first:
            first.call("daemon.stop")
            assert first.wait_closed(20)
        assert "BATCH_INFER_IDLE_EXIT_S must be a positive number of seconds, found 'soon'" in idle.log()


class TestTheWatch:
    def test_a_removed_socket_is_made_again(self, moving_clock):
        with moving_clock.start() as first:
            path = moving_clock.beacon().endpoint.removeprefix("unix:")
            os.unlink(path)
            assert moving_clock.existing() is None
            moving_clock.advance(5)
            with wait_for(moving_clock.existing, "the daemon") as again:
                assert again.pid == first.pid
            assert first.call("list")["pid"] == first.pid, "old connections live on"

    def test_a_client_that_comes_meanwhile_waits_for_it(self, moving_clock):
        with moving_clock.start() as first:
            os.unlink(moving_clock.beacon().endpoint.removeprefix("unix:"))
            threading.Timer(0.2, moving_clock.advance, [5]).start()
            with moving_clock.start() as again:
                assert again.pid == first.pid

    def test_a_removed_runtime_directory_is_made_up_for(self, moving_clock, short_tmp):
        """As logind does at logout."""
        with moving_clock.start() as first:
            shutil.rmtree(short_tmp)
            moving_clock.advance(5)
            with wait_for(moving_clock.existing, "the daemon") as again:
                assert again.pid == first.pid
            path = moving_clock.beacon().endpoint.removeprefix("unix:")
            assert not path.startswith(str(short_tmp))
            first.call("daemon.stop")
            first.wait_closed(20)
        assert not os.path.exists(path)

    def test_a_socket_of_somebody_else_in_its_place_is_left_alone(self, moving_clock):
        with moving_clock.start() as first, socket.socket(socket.AF_UNIX) as other:
            path = moving_clock.beacon().endpoint.removeprefix("unix:")
            os.unlink(path)
            other.bind(path)
            other.listen()
            moving_clock.advance(5)
            wait_for(lambda: moving_clock.beacon().endpoint != f"unix:{path}", "another name")
            with moving_clock.existing() as again:
                assert again.pid == first.pid
            assert os.path.exists(path)

    def test_a_removed_beacon_is_written_again(self, moving_clock):
        with moving_clock.start() as first:
            moving_clock.workspace.beacon.unlink()
            moving_clock.advance(5)
            with wait_for(moving_clock.existing, "the beacon") as again:
                assert again.pid == first.pid

    def test_with_the_workspace_gone_it_ends(self, moving_clock):
        with moving_clock.start() as first:
            path = moving_clock.beacon().endpoint.removeprefix("unix:")
            shutil.rmtree(moving_clock.root)
            moving_clock.advance(5)
            assert gone(first.pid)
        assert not os.path.exists(path)
        assert not moving_clock.root.exists(), "it does not come back"

    def test_with_the_workspace_replaced_it_ends(self, moving_clock):
        with moving_clock.start() as first:
            shutil.rmtree(moving_clock.root)
            moving_clock.root.mkdir()
            moving_clock.advance(5)
            assert gone(first.pid)
        # The application of these tests writes by path; the daemon itself writes nothing any more.
        assert {path.name for path in moving_clock.root.iterdir()} <= {"stopped"}

    def test_with_its_lock_file_gone_it_ends(self, moving_clock):
        """Another daemon could hold a new file of that name."""
        with moving_clock.start() as first:
            moving_clock.workspace.lock.unlink()
            moving_clock.advance(5)
            assert gone(first.pid)
        assert "another daemon may hold the workspace" in moving_clock.log()


def test_out_of_descriptors_it_backs_off_and_loses_nobody(place):
    with place.start() as first:
        process = psutil.Process(first.pid)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # Room for one more connection than there is.
        process.rlimit(psutil.RLIMIT_NOFILE, (first.call("list")["files"] + 1, hard))
        path = place.beacon().endpoint.removeprefix("unix:")
        held = []
        for _ in range(20):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            held.append(client)
        wait_for(lambda: "cannot accept a client" in place.log(), "the back-off")
        before = process.cpu_times().user
        wait_for(lambda: place.log().count("cannot accept a client") >= 3, "more tries")
        tries = place.log().count("cannot accept a client")
        for _ in range(50):
            assert first.call("daemon.status")["pid"] == first.pid, "others are served meanwhile"
        assert place.log().count("cannot accept a client") <= tries + 1, "it waits, it does not spin"
        assert process.cpu_times().user - before < 0.5
        for client in held:
            client.close()
        with wait_for(place.existing, "a free descriptor") as again:
            assert again.call("daemon.status")["pid"] == first.pid


def test_a_client_that_dies_at_once_disturbs_nobody(place):
    with place.start() as first:
        path = place.beacon().endpoint.removeprefix("unix:")
        code = (
            "import os, socket, sys\n"
            "for n in range(200):\n"
            "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "    if n % 2: s.send(b'\\0\\0\\0')\n"
            "os.kill(os.getpid(), 9)"
        )
        subprocess.run(["python3", "-c", code, path], check=False)
        assert first.call("list")["pid"] == first.pid
        wait_for(lambda: first.call("daemon.status")["connections"] == 1, "the end of the dead ones")


def test_a_forged_beacon_is_put_right_by_the_living_daemon(moving_clock):
    with moving_clock.start() as first:
        true = moving_clock.beacon()
        beacon.write(moving_clock.workspace.beacon, true._replace(pid=1, endpoint="unix:/nowhere"))
        moving_clock.advance(5)
        wait_for(lambda: moving_clock.beacon() == true, "the true beacon")
        assert first.call("list")["pid"] == first.pid
    end(first.pid)

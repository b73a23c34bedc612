"""The Unix socket: private, found by a short name, never taken from somebody who listens."""

import os
import socket
import stat
import time

import pytest

from batch_infer.protocol import transport
from batch_infer.protocol.transport import unix


@pytest.fixture
def listener(workspace):
    made = unix.listen(workspace)
    yield made
    made.withdraw()
    made.close()


def no_runtime_directory(monkeypatch, fallback):
    """As on a machine without one; the usual fallback in /tmp is put elsewhere."""
    monkeypatch.setattr(unix, "_runtime_directory", lambda: None)
    monkeypatch.setattr(unix, "Path", lambda _: fallback)


def test_client_and_daemon_talk(listener):
    channel = transport.connect(listener.endpoint, 5)
    server, _ = listener.sock.accept()
    channel.send(b"hello", 5)
    assert server.recv(10) == b"hello"
    server.sendall(b"answer")
    assert channel.receive(3, 5) == b"ans"
    assert channel.receive(100, 5) == b"wer"
    with pytest.raises(TimeoutError):
        channel.receive(1, 0.01)
    server.close()
    assert channel.receive(1, 5) == b""
    channel.close()
    channel.close()


def test_it_lies_in_the_runtime_directory_and_is_private(listener, short_tmp):
    assert listener.endpoint == f"unix:{listener.path}"
    assert os.path.dirname(listener.path) == f"{short_tmp}/batch_infer"
    assert stat.S_IMODE(os.lstat(listener.path).st_mode) == 0o600
    assert stat.S_IMODE(os.lstat(f"{short_tmp}/batch_infer").st_mode) == 0o700
    assert not os.get_inheritable(listener.sock.fileno())


def test_the_umask_is_as_before(workspace):
    before = os.umask(0o022)
    try:
        made = unix.listen(workspace)
        made.withdraw()
        made.close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_its_name_is_that_of_the_workspace(tmp_path):
    (tmp_path / "b").mkdir()
    assert unix.socket_path(tmp_path) == unix.socket_path(tmp_path)
    assert unix.socket_path(tmp_path) != unix.socket_path(tmp_path / "b")


def test_however_long_the_workspace_is_the_path_is_short(tmp_path):
    assert len(unix.socket_path(tmp_path / ("x" * 250) / ("y" * 250))) < unix.PATH_MAX - 8


class TestWhereThereIsNoRuntimeDirectory:
    def test_an_own_directory_is_made(self, tmp_path, short_tmp, monkeypatch):
        no_runtime_directory(monkeypatch, short_tmp / "own")
        assert unix.socket_path(tmp_path).startswith(f"{short_tmp}/own/")
        assert stat.S_IMODE((short_tmp / "own").stat().st_mode) == 0o700

    def test_its_usual_place_names_the_user(self, tmp_path, monkeypatch):
        asked = []

        def private(path):
            asked.append(str(path))
            return path

        monkeypatch.setattr(unix, "_runtime_directory", lambda: None)
        monkeypatch.setattr(unix, "_private", private)
        unix.socket_path(tmp_path)
        assert asked == [f"/tmp/batch_infer-{os.geteuid()}"]  # noqa: S108  the very name

    def test_one_that_is_open_to_others_is_closed(self, tmp_path, short_tmp, monkeypatch):
        (short_tmp / "own").mkdir(mode=0o755)
        no_runtime_directory(monkeypatch, short_tmp / "own")
        unix.socket_path(tmp_path)
        assert stat.S_IMODE((short_tmp / "own").stat().st_mode) == 0o700

    def test_a_symbolic_link_in_its_place_is_refused(self, tmp_path, short_tmp, monkeypatch):
        (short_tmp / "elsewhere").mkdir()
        (short_tmp / "own").symlink_to(short_tmp / "elsewhere")
        no_runtime_directory(monkeypatch, short_tmp / "own")
        with pytest.raises(PermissionError, match="somebody else"):
            unix.socket_path(tmp_path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_one_of_another_user_is_refused(self, tmp_path, short_tmp, monkeypatch):
        (short_tmp / "own").mkdir()
        os.chown(short_tmp / "own", 12345, 12345)
        no_runtime_directory(monkeypatch, short_tmp / "own")
        with pytest.raises(PermissionError, match="somebody else"):
            unix.socket_path(tmp_path)

    def test_a_path_that_is_too_long_is_refused_clearly(self, tmp_path, monkeypatch):
        (tmp_path / ("x" * 100)).mkdir()
        no_runtime_directory(monkeypatch, tmp_path / ("x" * 100))
        with pytest.raises(OSError, match="longer than"):
            unix.socket_path(tmp_path)


class TestTheRuntimeDirectory:
    def test_one_that_is_missing_is_not_used(self, short_tmp, monkeypatch):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_tmp / "gone"))
        found = unix._runtime_directory()
        assert found is None or not str(found).startswith(str(short_tmp))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_one_of_another_user_is_not_used(self, short_tmp, monkeypatch):
        other = short_tmp / "other"
        other.mkdir(mode=0o700)
        os.chown(other, 12345, 12345)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(other))
        found = unix._runtime_directory()
        assert found is None or not str(found).startswith(str(short_tmp))

    def test_one_with_a_long_path_is_not_used(self, tmp_path, short_tmp, monkeypatch):
        monkeypatch.setattr(unix, "_runtime_directory", lambda: short_tmp / ("x" * 80))
        monkeypatch.setattr(unix, "Path", lambda _: short_tmp / "own")
        assert unix.socket_path(tmp_path).startswith(f"{short_tmp}/own/")


class TestWhatIsThereAlready:
    def test_the_socket_of_a_killed_daemon_is_replaced(self, workspace):
        path = unix.socket_path(workspace)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
            dead.listen()
        made = unix.listen(workspace)
        assert made.path == path
        transport.connect(made.endpoint, 5).close()
        made.withdraw()
        made.close()

    def test_a_socket_on_which_somebody_listens_is_left_alone(self, workspace, listener):
        other = unix.listen(workspace)
        try:
            assert other.path != listener.path
            assert len(other.path) <= unix.PATH_MAX
            assert listener.present()
            assert other.present()
            transport.connect(listener.endpoint, 5).close()
            transport.connect(other.endpoint, 5).close()
        finally:
            other.withdraw()
            other.close()
        assert listener.present()

    def test_a_plain_file_is_left_alone(self, workspace):
        path = unix.socket_path(workspace)
        with open(path, "w") as file:
            file.write("precious")
        made = unix.listen(workspace)
        try:
            assert made.path != path
            with open(path) as file:
                assert file.read() == "precious"
        finally:
            made.withdraw()
            made.close()

    def test_only_the_own_socket_is_withdrawn(self, listener):
        os.unlink(listener.path)
        assert not listener.present()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(listener.path)
            assert not listener.present()
            listener.withdraw()
            assert os.path.exists(listener.path)
        os.unlink(listener.path)


class TestConnecting:
    def test_nobody_there(self, short_tmp):
        with pytest.raises(FileNotFoundError):
            transport.connect(f"unix:{short_tmp}/none", 5)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"{short_tmp}/s")
            with pytest.raises(ConnectionRefusedError):
                transport.connect(f"unix:{short_tmp}/s", 5)

    @pytest.mark.parametrize(
        "endpoint", ["", "unix:", "unix:relative", "unix:/a\0b", "pipe:x", "tcp:1", "/x"]
    )
    def test_what_is_no_endpoint_here(self, endpoint):
        with pytest.raises(ValueError, match=r"absolute|no endpoint"):
            transport.connect(endpoint, 5)

    def test_a_full_queue_is_waited_for_with_a_bound(self, short_tmp):
        held = []
        with socket.socket(socket.AF_UNIX) as full:
            full.bind(f"{short_tmp}/s")
            full.listen(0)
            held.append(transport.connect(f"unix:{short_tmp}/s", 5))
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                transport.connect(f"unix:{short_tmp}/s", 0.1)
            assert 0.1 <= time.monotonic() - began < 5
        for channel in held:
            channel.close()

    def test_another_users_daemon_is_refused(self, listener, monkeypatch):
        monkeypatch.setattr(unix, "_peer_uid", lambda sock: os.geteuid() + 1)
        with pytest.raises(PermissionError, match="another user"):
            transport.connect(listener.endpoint, 5)


def test_the_other_ends_user_is_known(listener):
    channel = transport.connect(listener.endpoint, 5)
    server, _ = listener.sock.accept()
    assert unix._peer_uid(server) == os.geteuid()
    assert unix.foreign_uid(server) is None
    server.close()
    channel.close()

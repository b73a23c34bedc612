"""The named pipe, against a Windows in memory: its flags, its owner, and a blocking channel with timeouts."""

import asyncio
import inspect

import pytest
from fake_windows import make_api
from server_kit import until

from batch_infer.protocol.transport import win32, windows
from batch_inferd.seams.clock import SystemClock
from batch_inferd.server import pipes


@pytest.fixture
def api():
    return make_api()


@pytest.fixture
def listener(api):
    return windows.PipeListener(api)


def server_side(api, listener):
    """The instance that a client got, as the server sees it."""
    return api.kernel32.instances[listener.name][0]


def test_the_first_instance_is_the_first_and_all_reject_other_machines(api, listener):
    listener.instance()
    listener.instance()
    flags = [flags for _, flags, _, _ in api.kernel32.created]
    assert [bool(f & win32.FILE_FLAG_FIRST_PIPE_INSTANCE) for f in flags] == [True, False]
    for name, flag, mode, security in api.kernel32.created:
        assert name == listener.name
        assert flag & win32.FILE_FLAG_OVERLAPPED
        assert mode & win32.PIPE_REJECT_REMOTE_CLIENTS
        assert not mode & 0x4, "a stream of bytes, not of messages"
        assert security.lpSecurityDescriptor == 4242
        assert not security.bInheritHandle


def test_only_the_user_may_open_it(api, listener):
    # D: the access list; P: nothing inherited; A: allow; GA: everything; and nobody else is named.
    assert api.advapi32.descriptors == ["D:P(A;;GA;;;S-1-5-21-7)"]
    assert api.kernel32.closed == [77]
    assert len(api.kernel32.freed) == 1


def test_its_name_cannot_be_guessed(api):
    names = {windows.PipeListener(api).endpoint for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith(r"pipe:\\.\pipe\batch_infer-") for name in names)
    assert all(len(name) > 50 for name in names)


def test_a_name_that_somebody_has_made_before_is_refused(api, monkeypatch):
    monkeypatch.setattr(windows.secrets, "token_hex", lambda n: "same")
    windows.PipeListener(api)
    with pytest.raises(PermissionError, match="CreateNamedPipeW"):
        windows.PipeListener(api)


def test_an_unused_instance_is_closed(api, listener):
    api.kernel32.closed.clear()
    listener.close()
    listener.close()
    assert len(api.kernel32.closed) == 1


class TestTheChannel:
    def test_bytes_go_both_ways(self, api, listener):
        channel = windows.connect(api, listener.name, 5)
        pipe = server_side(api, listener)
        channel.send(b"a" * 200_000, 5)
        assert b"".join(pipe.to_server) == b"a" * 200_000
        pipe.to_client.extend([b"answer", b"!"])
        assert channel.receive(3, 5) == b"ans"
        assert channel.receive(100, 5) == b"wer"
        assert channel.receive(100, 5) == b"!"

    def test_a_read_that_takes_too_long_is_cancelled_and_waited_for(self, api, listener):
        channel = windows.connect(api, listener.name, 5)
        with pytest.raises(TimeoutError):
            channel.receive(10, 0)
        assert api.kernel32.cancelled == 1
        server_side(api, listener).to_client.append(b"later")
        assert channel.receive(10, 5) == b"later"

    def test_the_end(self, api, listener):
        channel = windows.connect(api, listener.name, 5)
        server_side(api, listener).to_client.append(None)
        assert channel.receive(10, 5) == b""
        with pytest.raises(ConnectionResetError):
            channel.send(b"x", 5)

    def test_it_is_closed_once(self, api, listener):
        channel = windows.connect(api, listener.name, 5)
        api.kernel32.closed.clear()
        channel.close()
        channel.close()
        assert len(api.kernel32.closed) == 2  # the pipe and its event

    def test_the_server_may_not_act_in_our_name(self, api, listener):
        windows.connect(api, listener.name, 5)
        _, _, flags = api.kernel32.opened[0]
        assert flags & win32.SECURITY_SQOS_PRESENT
        assert flags & win32.SECURITY_IDENTIFICATION


class TestConnecting:
    def test_nobody_there(self, api):
        with pytest.raises(FileNotFoundError):
            windows.connect(api, r"\\.\pipe\batch_infer-none", 5)

    def test_a_busy_pipe_is_waited_for(self, api, listener):
        api.kernel32.busy_answers = 2
        windows.connect(api, listener.name, 5)
        assert len(api.kernel32.waited) == 2
        assert all(0 < ms <= 5000 for ms in api.kernel32.waited)

    def test_with_a_bound(self, api, listener):
        api.kernel32.busy_answers = 1
        with pytest.raises(TimeoutError):
            windows.connect(api, listener.name, 0)

    @pytest.mark.parametrize("name", ["", "x", r"\\server\pipe\x", "/dev/x"])
    def test_only_a_pipe_of_this_machine(self, api, name):
        with pytest.raises(ValueError, match="of this machine"):
            windows.connect(api, name, 5)
        assert not api.kernel32.opened


class FakeHandle:
    """asyncio.windows_utils.PipeHandle."""

    def __init__(self, handle):
        self.handle = handle
        self.closed = False

    def close(self):
        self.closed = True


class FakeProactor:
    """Accepts a client at each `come()`."""

    def __init__(self):
        self.waiting = asyncio.Queue()
        self.offered = []

    async def accept_pipe(self, pipe):
        self.offered.append(pipe)
        outcome = await self.waiting.get()
        if isinstance(outcome, OSError):
            raise outcome


class FakeServer:
    def __init__(self):
        self.clock = SystemClock()
        self.room = True

    def has_room(self):
        return self.room

    def new_link(self):
        return "link"


class TestAccepting:
    async def test_each_client_gets_an_instance(self, listener, monkeypatch):
        loop = asyncio.get_running_loop()
        proactor, served, server = FakeProactor(), asyncio.Queue(), FakeServer()
        monkeypatch.setattr(loop, "_proactor", proactor, raising=False)
        monkeypatch.setattr(
            loop, "_make_duplex_pipe_transport", lambda pipe, link: served.put_nowait(pipe), raising=False
        )
        monkeypatch.setattr(pipes, "_pipe_handle", lambda: FakeHandle)
        monkeypatch.setattr(pipes, "BACK_OFF_S", 0)
        acceptor = pipes.PipeAcceptor(listener, server)
        acceptor.start()
        for outcome in (None, OSError(232, "gone again"), None):
            proactor.waiting.put_nowait(outcome)
        first = await asyncio.wait_for(served.get(), 5)
        second = await asyncio.wait_for(served.get(), 5)
        assert first is not second
        assert not first.closed
        assert not second.closed
        assert proactor.offered[1].closed, "the one whose client went again"
        server.room = False
        proactor.waiting.put_nowait(None)
        await until(lambda: len(proactor.offered) == 5)
        assert proactor.offered[3].closed, "no room: turned away"
        await acceptor.stop()
        assert proactor.offered[4].closed
        assert served.empty()


def test_every_function_that_is_used_is_declared():
    """ctypes cuts undeclared handles to 32 bits: `load` must name all that the sources call."""
    import re

    declared = set(re.findall(r"(?:kernel32|advapi32)\.(\w+), ", inspect.getsource(win32.load)))
    used = {
        name
        for module in (win32, windows)
        for name in re.findall(r"(?:api|_api)\.(?:kernel32|advapi32)\.(\w+)", inspect.getsource(module))
    } | {"ReadFile", "WriteFile"}
    used |= set(re.findall(r"\bkernel32\.(\w+)\(", inspect.getsource(windows)))
    used |= {"ConvertStringSecurityDescriptorToSecurityDescriptorW"}
    assert used - {"DLL"} <= declared | {"ConvertStringSecurityDescriptorToSecurityDescriptorW"}
    assert "ConvertStringSecurityDescriptorToSecurityDescriptorW" in inspect.getsource(win32.load)

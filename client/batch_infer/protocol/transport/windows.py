"""The named pipe of Windows: listening on it, and connecting to it.

The name is random and stands only in the beacon, which only the user can read. The first instance is
made with FIRST_PIPE_INSTANCE, so that nobody can have made the name before; every instance rejects
clients of other machines, and its security descriptor admits the user alone. asyncio's own pipe server
can set neither of the latter two, so the instances are made here.
"""

from __future__ import annotations

import ctypes
import secrets
import time
from ctypes import wintypes
from typing import TYPE_CHECKING

from batch_infer.protocol.transport import win32

if TYPE_CHECKING:
    from batch_infer.protocol.transport.win32 import Api

_BUFFER = 64 * 1024


class PipeListener:
    """A pipe name of ours. Each instance of it serves one client (see `instance`)."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._security = win32.owner_only(api)
        self.name = rf"\\.\pipe\batch_infer-{secrets.token_hex(16)}"
        self._first: int | None = self._create(first=True)

    @property
    def endpoint(self) -> str:
        """See `Listener.endpoint`."""
        return f"pipe:{self.name}"

    def instance(self) -> int:
        """The handle of an instance that waits for a client; the caller closes it. Raises OSError."""
        first, self._first = self._first, None
        return self._create(first=False) if first is None else first

    def present(self) -> bool:
        """See `Listener.present`: a pipe's name lives as long as an instance."""
        return True

    def withdraw(self) -> None:
        """See `Listener.withdraw`: the name goes with the last instance, which the acceptor closes."""

    def close(self) -> None:
        """See `Listener.close`."""
        if self._first is not None:
            self._api.kernel32.CloseHandle(self._first)
            self._first = None

    def _create(self, *, first: bool) -> int:
        flags = win32.PIPE_ACCESS_DUPLEX | win32.FILE_FLAG_OVERLAPPED
        if first:
            flags |= win32.FILE_FLAG_FIRST_PIPE_INSTANCE
        handle = self._api.kernel32.CreateNamedPipeW(
            self.name,
            flags,
            win32.PIPE_TYPE_BYTE
            | win32.PIPE_READMODE_BYTE
            | win32.PIPE_WAIT
            | win32.PIPE_REJECT_REMOTE_CLIENTS,
            win32.PIPE_UNLIMITED_INSTANCES,
            _BUFFER,
            _BUFFER,
            0,
            ctypes.byref(self._security),
        )
        if handle is None or handle == win32.INVALID_HANDLE:
            raise self._api.error("CreateNamedPipeW")
        return int(handle)


class PipeChannel:
    """A connected pipe as `Channel`: overlapped reads and writes, each waited for with a timeout."""

    def __init__(self, api: Api, handle: int) -> None:
        self._api = api
        self._handle: int | None = handle
        self._event = api.kernel32.CreateEventW(None, True, False, None)
        if not self._event:
            error = api.error("CreateEventW")
            api.kernel32.CloseHandle(handle)
            raise error

    def send(self, data: bytes, timeout: float) -> None:
        """See `Channel.send`."""
        deadline = time.monotonic() + timeout
        view = memoryview(data)
        while view:
            part = ctypes.create_string_buffer(bytes(view[:_BUFFER]), min(len(view), _BUFFER))
            done = self._transfer("WriteFile", part, deadline)
            if done is None:
                raise ConnectionResetError("the daemon closed the pipe")
            view = view[done:]

    def receive(self, size: int, timeout: float) -> bytes:
        """See `Channel.receive`."""
        buffer = ctypes.create_string_buffer(size)
        done = self._transfer("ReadFile", buffer, time.monotonic() + timeout)
        return b"" if done is None else buffer.raw[:done]

    def close(self) -> None:
        """See `Channel.close`."""
        if self._handle is not None:
            self._api.kernel32.CloseHandle(self._handle)
            self._api.kernel32.CloseHandle(self._event)
            self._handle = None

    def _transfer(self, name: str, buffer: ctypes.Array[ctypes.c_char], deadline: float) -> int | None:
        """Read or write once; the number of bytes, None when the other end is gone. Raises OSError."""
        kernel32 = self._api.kernel32
        overlapped = win32.Overlapped(hEvent=self._event)
        count = wintypes.DWORD()
        started = getattr(kernel32, name)(self._handle, buffer, len(buffer), None, ctypes.byref(overlapped))
        if not started:
            code = self._api.last_error()
            if code in win32.HUNG_UP:
                return None
            if code != win32.ERROR_IO_PENDING:
                raise self._api.error(name)
            left_ms = max(0, round((deadline - time.monotonic()) * 1000))
            if kernel32.WaitForSingleObject(self._event, left_ms) != win32.WAIT_OBJECT_0:
                # The kernel writes into our memory until the cancel is through: it is waited for below.
                kernel32.CancelIoEx(self._handle, ctypes.byref(overlapped))
        if kernel32.GetOverlappedResult(self._handle, ctypes.byref(overlapped), ctypes.byref(count), True):
            return count.value
        code = self._api.last_error()
        if code in win32.HUNG_UP:
            return None
        if code == win32.ERROR_OPERATION_ABORTED:
            raise TimeoutError("the daemon did not answer in time")
        raise self._api.error(name)


def connect(api: Api, name: str, timeout: float) -> PipeChannel:
    """Connect to the pipe `name` within `timeout` seconds.

    Raises OSError; FileNotFoundError when there is no such pipe, TimeoutError when all instances are
    taken for that long.
    """
    if not name.startswith("\\\\.\\pipe\\"):
        raise ValueError("a pipe of this machine is named \\\\.\\pipe\\…")
    deadline = time.monotonic() + timeout
    while True:
        handle = api.kernel32.CreateFileW(
            name,
            win32.GENERIC_READ | win32.GENERIC_WRITE,
            0,
            None,
            win32.OPEN_EXISTING,
            # The server may learn who we are, but not act in our name.
            win32.FILE_FLAG_OVERLAPPED | win32.SECURITY_SQOS_PRESENT | win32.SECURITY_IDENTIFICATION,
            None,
        )
        if handle is not None and handle != win32.INVALID_HANDLE:
            return PipeChannel(api, int(handle))
        if api.last_error() != win32.ERROR_PIPE_BUSY:
            raise api.error("CreateFileW")
        left_ms = round((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            raise TimeoutError("all instances of the pipe are taken")
        # It fails when the name goes away or the time is up; the next CreateFileW tells which.
        api.kernel32.WaitNamedPipeW(name, left_ms)

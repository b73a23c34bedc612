"""Windows as far as named pipes need it: pipes in memory, behind the functions of kernel32 and advapi32."""

from __future__ import annotations

import ctypes
import itertools
from collections import deque

from batch_infer.protocol.transport import win32

WAIT_TIMEOUT = 258


class Pipe:
    """One instance: what each side has written and not yet read."""

    def __init__(self):
        self.to_server = deque()
        self.to_client = deque()
        self.client = None


class Kernel32:
    """Overlapped operations end at once if they can; else they stay pending until they are cancelled."""

    def __init__(self):
        self.error = 0
        self.handles = {}
        self.closed = []
        self.freed = []
        self.instances = {}
        self.created = []
        self.opened = []
        self.waited = []
        self.cancelled = 0
        self.busy_answers = 0
        self._numbers = itertools.count(100)
        self._done = {}

    def _handle(self, thing):
        number = next(self._numbers)
        self.handles[number] = thing
        return number

    def _fail(self, code, value=0):
        self.error = code
        return value

    def CreateNamedPipeW(self, name, flags, mode, instances, out, inn, timeout, security):
        first = bool(flags & win32.FILE_FLAG_FIRST_PIPE_INSTANCE)
        self.created.append((name, flags, mode, security._obj))
        if first and self.instances.get(name):
            return self._fail(win32.ERROR_ACCESS_DENIED, win32.INVALID_HANDLE)
        pipe = Pipe()
        self.instances.setdefault(name, []).append(pipe)
        return self._handle(("server", pipe))

    def CreateFileW(self, name, access, share, security, disposition, flags, template):
        self.opened.append((name, access, flags))
        if self.busy_answers:
            self.busy_answers -= 1
            return self._fail(win32.ERROR_PIPE_BUSY, win32.INVALID_HANDLE)
        free = [pipe for pipe in self.instances.get(name, []) if pipe.client is None]
        if not free:
            return self._fail(win32.ERROR_FILE_NOT_FOUND, win32.INVALID_HANDLE)
        free[0].client = self._handle(("client", free[0]))
        return free[0].client

    def WaitNamedPipeW(self, name, milliseconds):
        self.waited.append(milliseconds)
        return 0

    def CreateEventW(self, security, manual, initial, name):
        return self._handle(("event",))

    def ReadFile(self, handle, buffer, size, count, overlapped):
        side, pipe = self.handles[handle]
        queue = pipe.to_client if side == "client" else pipe.to_server
        if queue and queue[0] is None:
            return self._fail(win32.ERROR_BROKEN_PIPE)
        if not queue:
            return self._fail(win32.ERROR_IO_PENDING)
        data = queue.popleft()
        taken, rest = data[:size], data[size:]
        if rest:
            queue.appendleft(rest)
        ctypes.memmove(buffer, taken, len(taken))
        self._done[ctypes.addressof(overlapped._obj)] = len(taken)
        return 1

    def WriteFile(self, handle, buffer, size, count, overlapped):
        side, pipe = self.handles[handle]
        if pipe.to_client and pipe.to_client[-1] is None:
            return self._fail(win32.ERROR_NO_DATA)
        (pipe.to_server if side == "client" else pipe.to_client).append(bytes(buffer[:size]))
        self._done[ctypes.addressof(overlapped._obj)] = size
        return 1

    def WaitForSingleObject(self, handle, milliseconds):
        return WAIT_TIMEOUT

    def CancelIoEx(self, handle, overlapped):
        self.cancelled += 1
        return 1

    def GetOverlappedResult(self, handle, overlapped, count, wait):
        done = self._done.pop(ctypes.addressof(overlapped._obj), None)
        if done is None:
            return self._fail(win32.ERROR_OPERATION_ABORTED)
        count._obj.value = done
        return 1

    def CloseHandle(self, handle):
        self.closed.append(getattr(handle, "value", handle))
        return 1

    def LocalFree(self, pointer):
        self.freed.append(pointer)

    def GetCurrentProcess(self):
        return 2**64 - 1


class Advapi32:
    """The user S-1-5-21-7."""

    def __init__(self):
        self.descriptors = []

    def OpenProcessToken(self, process, access, token):
        token._obj.value = 77
        return 1

    def GetTokenInformation(self, token, kind, buffer, size, needed):
        assert kind == win32.TOKEN_USER
        return 1

    def ConvertSidToStringSidW(self, sid, text):
        text._obj.value = "S-1-5-21-7"
        return 1

    def ConvertStringSecurityDescriptorToSecurityDescriptorW(self, text, revision, descriptor, size):
        self.descriptors.append(text)
        descriptor._obj.value = 4242
        return 1


def make_api():
    """An `Api` whose libraries are these."""
    kernel32 = Kernel32()
    return win32.Api(kernel32, Advapi32(), lambda: kernel32.error)

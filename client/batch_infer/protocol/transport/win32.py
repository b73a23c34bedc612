"""The few functions of Windows that a named pipe needs, by ctypes.

`Api` carries the libraries, so that a test can put fakes in their place on any platform. Every handle
is a plain int.
"""

from __future__ import annotations

import ctypes
from ctypes import wintypes
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_ACCESS_DUPLEX = 0x0000_0003
FILE_FLAG_FIRST_PIPE_INSTANCE = 0x0008_0000
FILE_FLAG_OVERLAPPED = 0x4000_0000
PIPE_TYPE_BYTE = 0x0
PIPE_READMODE_BYTE = 0x0
PIPE_WAIT = 0x0
PIPE_REJECT_REMOTE_CLIENTS = 0x8
PIPE_UNLIMITED_INSTANCES = 255

GENERIC_READ = 0x8000_0000
GENERIC_WRITE = 0x4000_0000
OPEN_EXISTING = 3
SECURITY_SQOS_PRESENT = 0x0010_0000
SECURITY_IDENTIFICATION = 0x0001_0000
INVALID_HANDLE = ctypes.c_void_p(-1).value

WAIT_OBJECT_0 = 0
TOKEN_QUERY = 0x8
TOKEN_USER = 1
SDDL_REVISION_1 = 1

ERROR_FILE_NOT_FOUND = 2
ERROR_ACCESS_DENIED = 5
ERROR_BROKEN_PIPE = 109
ERROR_SEM_TIMEOUT = 121
ERROR_PIPE_BUSY = 231
ERROR_NO_DATA = 232
ERROR_PIPE_NOT_CONNECTED = 233
ERROR_OPERATION_ABORTED = 995
ERROR_IO_PENDING = 997

# A pipe whose other end is gone.
HUNG_UP = frozenset({ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED})
_ERRORS: dict[int, type[OSError]] = {
    ERROR_FILE_NOT_FOUND: FileNotFoundError,
    ERROR_ACCESS_DENIED: PermissionError,
    ERROR_SEM_TIMEOUT: TimeoutError,
    ERROR_BROKEN_PIPE: ConnectionResetError,
    ERROR_NO_DATA: ConnectionResetError,
    ERROR_PIPE_NOT_CONNECTED: ConnectionResetError,
}


class SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (
        ("nLength", wintypes.DWORD),
        ("lpSecurityDescriptor", ctypes.c_void_p),
        ("bInheritHandle", wintypes.BOOL),
    )


class Overlapped(ctypes.Structure):
    """OVERLAPPED, for a pipe: the offsets stay zero."""

    _fields_ = (
        ("Internal", ctypes.c_void_p),
        ("InternalHigh", ctypes.c_void_p),
        ("Offset", wintypes.DWORD),
        ("OffsetHigh", wintypes.DWORD),
        ("hEvent", wintypes.HANDLE),
    )


class Api(NamedTuple):
    """The libraries, and the last error of the calling thread."""

    kernel32: Any
    advapi32: Any
    last_error: Callable[[], int]

    def error(self, what: str) -> OSError:
        """The exception for the last error, of the subclass that Python would choose."""
        code = self.last_error()
        return _ERRORS.get(code, OSError)(code, f"{what} failed with Windows error {code}")


def load() -> Api:
    """The real ones. Windows only."""
    win_dll, last_error = ctypes.WinDLL, ctypes.get_last_error  # type: ignore[attr-defined,unused-ignore]
    kernel32 = win_dll("kernel32", use_last_error=True)
    advapi32 = win_dll("advapi32", use_last_error=True)
    handle, pointer, dword, text = wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD, wintypes.LPCWSTR
    # Without these, ctypes cuts handles and pointers to 32 bits.
    for function, returns, arguments in (
        (kernel32.CreateNamedPipeW, handle, (text, dword, dword, dword, dword, dword, dword, pointer)),
        (kernel32.CreateFileW, handle, (text, dword, dword, pointer, dword, dword, handle)),
        (kernel32.CreateEventW, handle, (pointer, wintypes.BOOL, wintypes.BOOL, text)),
        (kernel32.ReadFile, wintypes.BOOL, (handle, pointer, dword, pointer, pointer)),
        (kernel32.WriteFile, wintypes.BOOL, (handle, pointer, dword, pointer, pointer)),
        (kernel32.WaitForSingleObject, dword, (handle, dword)),
        (kernel32.WaitNamedPipeW, wintypes.BOOL, (text, dword)),
        (kernel32.GetOverlappedResult, wintypes.BOOL, (handle, pointer, pointer, wintypes.BOOL)),
        (kernel32.CancelIoEx, wintypes.BOOL, (handle, pointer)),
        (kernel32.CloseHandle, wintypes.BOOL, (handle,)),
        (kernel32.LocalFree, pointer, (pointer,)),
        (kernel32.GetCurrentProcess, handle, ()),
        (advapi32.OpenProcessToken, wintypes.BOOL, (handle, dword, pointer)),
        (advapi32.GetTokenInformation, wintypes.BOOL, (handle, ctypes.c_int, pointer, dword, pointer)),
        (advapi32.ConvertSidToStringSidW, wintypes.BOOL, (pointer, pointer)),
        (
            advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW,
            wintypes.BOOL,
            (text, dword, pointer, pointer),
        ),
    ):
        function.restype = returns
        function.argtypes = arguments
    return Api(kernel32, advapi32, last_error)


def user_sid(api: Api) -> str:
    """The security id of the user that this process runs as, as text. Raises OSError."""
    token = wintypes.HANDLE()
    process = api.kernel32.GetCurrentProcess()
    if not api.advapi32.OpenProcessToken(process, TOKEN_QUERY, ctypes.byref(token)):
        raise api.error("OpenProcessToken")
    try:
        size = wintypes.DWORD()
        buffer = ctypes.create_string_buffer(256)  # TOKEN_USER: a pointer, flags, and at most 68 bytes of SID
        if not api.advapi32.GetTokenInformation(
            token, TOKEN_USER, buffer, ctypes.sizeof(buffer), ctypes.byref(size)
        ):
            raise api.error("GetTokenInformation")
        sid = ctypes.c_void_p.from_buffer(buffer)
        text = ctypes.c_wchar_p()
        if not api.advapi32.ConvertSidToStringSidW(sid, ctypes.byref(text)):
            raise api.error("ConvertSidToStringSidW")
        try:
            return str(text.value)
        finally:
            api.kernel32.LocalFree(text)
    finally:
        api.kernel32.CloseHandle(token)


def owner_only(api: Api) -> SecurityAttributes:
    """Security attributes that let in this user and nobody else, and are not inherited. Raises OSError.

    The descriptor lives as long as the process: a daemon makes one.
    """
    descriptor = ctypes.c_void_p()
    if not api.advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
        f"D:P(A;;GA;;;{user_sid(api)})", SDDL_REVISION_1, ctypes.byref(descriptor), None
    ):
        raise api.error("ConvertStringSecurityDescriptorToSecurityDescriptorW")
    return SecurityAttributes(ctypes.sizeof(SecurityAttributes), descriptor, False)

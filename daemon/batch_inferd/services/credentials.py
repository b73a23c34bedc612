"""Credentials: what a task needs of secrets, and the one file of the user that keeps them.

A task's folder holds references only. The values lie in `credentials.json` (0600) in the user's state
directory, under the account's fingerprint, so that a restarted daemon finds them again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import platformdirs
from filelock import FileLock

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_DIR_VARIABLE = "BATCH_INFER_STATE_DIR"
PLACEHOLDER = "YOUR_PASSWORD"  # what stands in the example config
NO_PASSWORD = "none"  # noqa: S105  the word for a service that wants none

_FILE = "credentials.json"
_LOCK_TIMEOUT_S = 10.0
_POSIX = os.name == "posix"
_log = logging.getLogger(__name__)


class Credential(msgspec.Struct, frozen=True):
    """The secrets of one task, resolved. `repr` shows none of them."""

    password: str | None = None
    headers: dict[str, str] = {}  # the config's headers, with their variables' values
    proxy: str | None = None  # a proxy URL that has a password in it; others stand in the snapshot
    proxies: dict[str, str] = {}  # stored ones only: all such URLs of the account's tasks, by `proxy_key`

    def __repr__(self) -> str:
        return f"Credential(password={'***' if self.password else None}, headers={sorted(self.headers)})"


def proxy_key(credential: Credential) -> str | None:
    """16 hex digits that stand for the credential's proxy among those of its account; None without one.

    They stand in the task's folder, so nothing can be guessed from them: they are keyed with the
    password for the service. Where there is none, they stand for the proxy's address alone.
    """
    if credential.proxy is None:
        return None
    url = credential.proxy
    if not credential.password:
        parts = urlsplit(url)
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    key = (credential.password or "").encode("utf-8", "surrogatepass")
    message = url.encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:16]


class _Stored(msgspec.Struct):
    """The file: a random salt for the fingerprints, and the credentials by fingerprint."""

    salt: str
    credentials: dict[str, Credential] = {}
    version: int = 1


def _with_proxies(credential: Credential, known: Credential | None) -> Credential:
    """What the file keeps: `credential`, and the proxies of both."""
    proxies = dict(known.proxies) if known else {}
    for one in (known, credential):
        if one is not None and one.proxy is not None and (key := proxy_key(one)):
            proxies[key] = one.proxy
    last = credential.proxy or (known.proxy if known else None)
    return msgspec.structs.replace(credential, proxy=last, proxies=proxies)


class CredentialStore:
    """The user's credentials file. Every method blocks on the disk: call it in a thread.

    Daemons of several workspaces share it: each change is read, made and written under a lock.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or state_dir() / _FILE

    def fingerprint(self, base_url: str, credential: Credential) -> str:
        """16 hex digits that stand for a credential on a service: the key of an account and its limits.

        Nobody can guess the credential from them without the store's salt. Raises ConfigError.
        """
        parts = [base_url, credential.password, sorted(credential.headers.items())]
        message = json.dumps(parts, ensure_ascii=True).encode()
        return hmac.new(bytes.fromhex(self._salt()), message, hashlib.sha256).hexdigest()[:16]

    def save(self, fingerprint: str, credential: Credential) -> None:
        """Keep `credential` for later starts of the daemon, beside the account's other proxies.

        Raises ConfigError.
        """
        with self._locked() as directory:
            stored = self._read(directory) or _Stored(secrets.token_hex(32))
            known = stored.credentials.get(fingerprint)
            kept = _with_proxies(credential, known)
            if known != kept:
                stored.credentials[fingerprint] = kept
                self._write(directory, stored)

    def load(self, fingerprint: str) -> Credential | None:
        """The credential of an account; None when this user's file has none. Raises ConfigError.

        `proxy` is the one that was saved last: `restore` takes the task's own out of `proxies`.
        """
        with self._locked() as directory:
            stored = self._read(directory)
        return stored.credentials.get(fingerprint) if stored else None

    def _salt(self) -> str:
        with self._locked() as directory:
            stored = self._read(directory)
            if stored is None:
                stored = _Stored(secrets.token_hex(32))
                self._write(directory, stored)
        return stored.salt

    def _locked(self) -> _Locked:
        return _Locked(self._path)

    def _read(self, directory: Directory) -> _Stored | None:
        self._check_mode()
        try:
            data = directory.read(self._path.name)
        except FileNotFoundError:
            return None
        try:
            stored = msgspec.json.decode(data, type=_Stored)
            bytes.fromhex(stored.salt)
        except (msgspec.DecodeError, ValueError):
            damaged = f"{self._path.name}.damaged"
            directory.rename(self._path.name, damaged)
            _log.error("%s is damaged; it is kept as %s, and a new one begins", self._path, damaged)
            return None
        return stored

    def _write(self, directory: Directory, stored: _Stored) -> None:
        directory.write_atomic(self._path.name, msgspec.json.encode(stored))

    def _check_mode(self) -> None:
        """Nobody else may read the file: repair its mode, or refuse it when it is somebody else's."""
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not _POSIX:
            return
        params = {"path": str(self._path)}
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise ConfigError(
                Text("the credentials file {path} is not a file of your own; remove or rename it", params)
            )
        if status.st_mode & 0o077:
            _log.warning(
                "%s could be read by others; its mode is now 0600, change the keys in it", self._path
            )
            os.chmod(self._path, 0o600)


class _Locked:
    """The state directory (0700 when made here) with the file's lock held; a context manager."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._lock = FileLock(
            path.with_name(f"{path.name}.lock"),
            timeout=_LOCK_TIMEOUT_S,
            mode=0o600,
            fallback_to_soft=False,
            preserve_lock_file=True,
        )
        self._directory: Directory | None = None

    def __enter__(self) -> Directory:
        params: dict[str, Any] = {"path": str(self._folder)}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
            self._directory = Directory(self._folder)
        except TimeoutError as error:
            busy = Text("the credentials in {path} are locked by another process; try again", params)
            raise ConfigError(busy) from error
        except OSError as error:
            self._lock.release()
            params["error"] = error.strerror or type(error).__name__
            text = Text("the credentials cannot be kept in {path}: {error}", params)
            hint = Text("set {name} to a directory of your own", {"name": STATE_DIR_VARIABLE})
            raise ConfigError(text, hints=(hint,)) from error
        return self._directory

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            self._directory.close()
        self._lock.release()


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where the user's state lives: BATCH_INFER_STATE_DIR, else the platform's place for it."""
    configured = (os.environ if environ is None else environ).get(STATE_DIR_VARIABLE)
    return Path(configured) if configured else platformdirs.user_state_path("batch_infer")


def header_safe(text: str) -> bool:
    """Whether a string can stand in an HTTP header: printable ASCII."""
    return text.isascii() and text.isprintable()

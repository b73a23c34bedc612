"""What every test gets: an environment of its own, a short directory for sockets, no process left over."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import psutil
import pytest

# Started in the background, we may ignore SIGINT, and our children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_GONE = ("BATCH_INFER_", "XDG_")
_SECRET = ("_API_KEY", "_TOKEN")


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, short_tmp, monkeypatch):
    """Nothing of this user's settings, proxies or keys gets in, and nothing gets out of tmp_path."""
    for name in tuple(os.environ):
        if name == "BATCH_INFER_TEST_SEED":
            continue  # it repeats a random test
        if name.startswith(_GONE) or name.endswith(_SECRET) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_tmp))
    monkeypatch.setenv("BATCH_INFER_STATE_DIR", str(home / "batch_infer"))
    for name in ("LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def short_tmp():
    """A private directory with a path short enough for a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="bi-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def workspace(tmp_path):
    """An empty workspace directory."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """A file with the seconds by which all processes are ahead that are started after this."""
    path = tmp_path / "clock"
    path.write_text("0")
    monkeypatch.setenv("BATCH_INFER_CLOCK_FILE", str(path))
    return path


@pytest.fixture(autouse=True)
def _no_process_left(request, tmp_path):
    """Kill every daemon, worker and test service that still runs for this test's directory."""
    yield
    # A unit test without a workspace starts none; looking at all processes takes a while.
    if "unit" in request.node.path.parts and "workspace" not in request.fixturenames:
        return
    left = [process for process in psutil.process_iter(["cmdline", "cwd"]) if _belongs_to(process, tmp_path)]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=10)


def _belongs_to(process, directory):
    if process.pid == os.getpid():
        return False
    where = str(directory)
    words = [process.info["cwd"] or "", *(process.info["cmdline"] or [])]
    return any(word == where or f"{where}/" in f"{word}/" for word in words)

"""The writer: all of an append or nothing, and no trust after a failed sync."""

import errno
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from journal_kit import answer

from batch_inferd.journal.names import journal_name
from batch_inferd.journal.scan import scan_journal
from batch_inferd.journal.writer import BrokenJournal, JournalWriter
from batch_inferd.seams import failpoint, files
from batch_inferd.seams.files import Directory

NAME = journal_name(1, "aa")


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "0000").mkdir()
    opened = Directory(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def fault(monkeypatch):
    def plan(text):
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", text)
        files._calls.clear()

    return plan


def content(directory):
    return (directory.path / NAME).read_bytes()


def test_creates_exclusively_and_privately(directory):
    writer = JournalWriter(directory, NAME)
    assert stat.S_IMODE(os.stat(directory.path / NAME).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        JournalWriter(directory, NAME)
    with pytest.raises(FileNotFoundError):
        JournalWriter(directory, journal_name(1001, "aa"))
    writer.close()


def test_an_append_is_one_write(directory, monkeypatch):
    writes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(len(data)) or real(fd, data))
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1) + answer(2))
    writer.append(answer(3))
    assert writes == [len(answer(1)) * 2, len(answer(3))]
    assert content(directory) == answer(1) + answer(2) + answer(3)
    assert writer.size == sum(writes)
    writer.close()


def test_counts_what_is_not_durable(directory, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "_check", lambda operation, name: synced.append((operation, name)))
    writer = JournalWriter(directory, NAME)
    assert writer.needs_sync  # the name itself is not durable yet
    writer.append(answer(1))
    assert writer.unsynced == len(answer(1))
    writer.sync()
    assert not writer.needs_sync
    assert writer.unsynced == 0
    assert synced[-2:] == [("sync", NAME), ("sync", "0000")]
    synced.clear()
    writer.sync()
    assert synced == []
    writer.append(answer(2))
    writer.sync()
    assert synced == [("write", NAME), ("sync", NAME)]
    writer.close()


def test_strict_syncs_each_append(directory, monkeypatch):
    writer = JournalWriter(directory, NAME, strict=True)
    writer.append(answer(1))
    assert not writer.needs_sync
    writer.close()


def test_what_is_appended_during_a_sync_stays_unsynced(directory, monkeypatch):
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))
    inside, leave = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd):
        inside.set()
        assert leave.wait(10)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    thread = threading.Thread(target=writer.sync)
    thread.start()
    assert inside.wait(10)
    writer.append(answer(2))  # is not held up by the sync
    leave.set()
    thread.join(10)
    assert writer.unsynced == len(answer(2))
    writer.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_write_records_nothing_and_may_be_repeated(directory, fault, number):
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))
    fault(f"write:chunk={number}@1")
    with pytest.raises(OSError, match="planned") as caught:
        writer.append(answer(2))
    assert caught.value.errno == number
    writer.append(answer(2))
    writer.sync()
    writer.close()
    assert content(directory) == answer(1) + answer(2)


def short_write(monkeypatch, count):
    """The next write takes `count` bytes, and the one after it finds no room."""
    real = os.write
    calls = []

    def write(fd, data):
        calls.append(1)
        if len(calls) == 1:
            return real(fd, data[:count])
        monkeypatch.setattr(os, "write", real)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", write)


def test_a_short_write_is_cut_back_wholly(directory, monkeypatch):
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))
    short_write(monkeypatch, len(answer(2)) + 10)  # one line whole, one torn
    with pytest.raises(OSError, match="full"):
        writer.append(answer(2) + answer(3))
    assert content(directory) == answer(1)  # line 2 was not counted as recorded: it must not stand there
    writer.append(answer(2))
    assert content(directory) == answer(1) + answer(2)
    writer.close()


def test_a_torn_tail_that_cannot_be_cut_breaks_the_writer(directory, monkeypatch):
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))

    def refuse(fd, size):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "ftruncate", refuse)
    short_write(monkeypatch, 10)
    with pytest.raises(OSError, match="full"):
        writer.append(answer(2))
    for act in (lambda: writer.append(answer(2)), writer.sync):
        with pytest.raises(BrokenJournal) as caught:
            act()
        assert caught.value.errno == errno.EIO
    writer.close()


def test_the_kernel_itself_refuses(directory):
    # A real limit instead of a planned fault: RLIMIT_FSIZE makes write(2) short, then fail with EFBIG.
    import signal

    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(answer(1)) + 20, old[1]))
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            writer.append(answer(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert content(directory) == answer(1)
    writer.append(answer(2))
    assert content(directory) == answer(1) + answer(2)
    writer.close()


@pytest.mark.parametrize("where", ["chunk", "0000"])
def test_a_failed_sync_is_final(directory, fault, where):
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))
    fault(f"sync:{where}={errno.EIO}@1")
    with pytest.raises(OSError, match="planned"):
        writer.sync()
    for act in (writer.sync, lambda: writer.append(answer(2))):  # although the fault is over
        with pytest.raises(BrokenJournal) as caught:
            act()
        assert caught.value.errno == errno.EIO
    assert writer.needs_sync
    writer.close()
    assert content(directory) == answer(1)


def test_closing_ends_it(directory):
    writer = JournalWriter(directory, NAME)
    writer.close()
    writer.close()
    for act in (writer.sync, lambda: writer.append(b"")):
        with pytest.raises(BrokenJournal):
            act()


def test_a_journal_without_a_byte_is_removed(directory):
    writer = JournalWriter(directory, NAME)
    writer.sync()
    writer.close()
    assert not (directory.path / NAME).exists()


def test_a_torn_tail_alone_is_no_empty_journal(directory, monkeypatch):
    writer = JournalWriter(directory, NAME)
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: os.lstat("/nowhere/at/all"))
    short_write(monkeypatch, 10)
    with pytest.raises(OSError, match="full"):
        writer.append(answer(1))
    assert writer.size == 0
    writer.close()
    assert content(directory) == answer(1)[:10]


def test_an_empty_journal_of_a_folder_that_was_replaced_is_let_be(directory):
    writer = JournalWriter(directory, NAME)
    elsewhere = directory.path.with_name("elsewhere")
    directory.path.rename(elsewhere)
    (directory.path / "0000").mkdir(parents=True)
    (directory.path / NAME).write_bytes(b"")
    writer.close()
    assert (directory.path / NAME).exists()
    assert (elsewhere / NAME).exists()


def test_a_close_that_complains_is_told_once(directory, monkeypatch):
    writer = JournalWriter(directory, NAME)
    writer.append(answer(1))
    real = os.close

    def close(fd):
        real(fd)
        raise OSError(errno.EDQUOT, "told late")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(OSError, match="told late"):
            writer.close()
    writer.close()
    assert content(directory) == answer(1)


def test_failpoints_stand_around_the_write(directory, monkeypatch):
    writer = JournalWriter(directory, NAME)
    for name in ("journal.before_write", "journal.written"):
        monkeypatch.setattr(failpoint, "_plan", {name: (f"raise:{errno.ENOSPC}", 0)})
        with pytest.raises(OSError, match=name):
            writer.append(answer(1))
        assert content(directory) == b""
    monkeypatch.setattr(failpoint, "_plan", {})
    writer.append(answer(1))
    writer.close()
    fd = directory.open(NAME, os.O_RDONLY)
    assert [scanned.entry.line for scanned in scan_journal(fd)] == [1]
    os.close(fd)


CRASH = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from journal_kit import answer
from batch_inferd.journal.writer import JournalWriter
from batch_inferd.seams.files import Directory
writer = JournalWriter(Directory(Path({root!r})), {name!r})
for line in (1, 2, 3):
    writer.append(answer(line))
    print(line, flush=True)
"""


@pytest.mark.parametrize(("point", "stands"), [("journal.before_write", 1), ("journal.written", 2)])
def test_a_kill_loses_nothing_that_was_recorded(directory, point, stands):
    code = CRASH.format(here=str(Path(__file__).parent), root=str(directory.path), name=NAME)
    env = {**os.environ, "BATCH_INFER_FAILPOINTS": f"{point}=exit@2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == failpoint.EXIT_STATUS, done.stderr
    assert done.stdout == b"1\n"
    assert content(directory) == b"".join(answer(line) for line in range(1, stands + 1))

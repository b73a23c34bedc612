"""A prepared file is closed at its end, and whatever ends it before."""

import errno
import os

import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.intake.prepare import prepare
from batch_inferd.intake.shapes import RecordError
from batch_inferd.intake.spool import SpoolStopped
from batch_inferd.sources.open import open_source
from batch_inferd.sources.spec import SourceSpec

FULL = f"write:out.jsonl={errno.ENOSPC}@3+"
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")

TOPICS = ["sun", "sea", "sand", "salt", "sky"]


def lost(_line, number):
    """The third record cannot be reached."""
    if number == 3:
        raise InputError("the network is down")
    return b"{}"


def broken(line, number):
    """Every second record cannot be made."""
    if number % 2 == 0:
        raise RecordError("image_missing", "it is not there")
    return line


def good(line, _number):
    return line


def shapeless(_line, _number):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("shaper", "plan", "stop", "error"),
    [
        (good, "", False, None),
        (broken, "", False, None),
        (lost, "", False, InputError),
        (good, FULL, False, OSError),
        (good, "", True, SpoolStopped),
        (shapeless, "", False, ZeroDivisionError),
    ],
)
def test_nothing_stays_open(tmp_path, monkeypatch, shaper, plan, stop, error):
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", plan)
    source = open_source(SourceSpec(kind="topics", topics=TOPICS))
    opened = []

    def run():
        # Looked at while it writes, to be sure that there is something to close.
        prepare(source, tmp_path / "out.jsonl", watched, made_of={}, stop=lambda: stop)

    def watched(line, number):
        opened.append(held(tmp_path))
        return shaper(line, number)

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert stop or opened[0]
    assert not held(tmp_path)


def held(folder):
    """What this process has open of a folder, itself too."""
    return [path for path in map(target, os.listdir("/proc/self/fd")) if path.startswith(str(folder))]


def target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:  # that of the list itself
        return ""

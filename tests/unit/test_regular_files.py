"""Whatever stands where a file is expected: nothing hangs on it, nothing is followed, and it is named."""

import errno
import os
import socket
from pathlib import Path

import pytest

from batch_infer.protocol.errors import ConfigError, InputError
from batch_infer.protocol.regular import NotRegularError, open_regular
from batch_inferd.checks.content import Tick
from batch_inferd.checks.validate import Asked, check_file
from batch_inferd.config.answer_schema import read_schema
from batch_inferd.config.schema import Input
from batch_inferd.intake.analysis import analyse
from batch_inferd.intake.choose import describe
from batch_inferd.intake.source import Pin, count_records, input_warning, open_pinned, starts_as_json
from batch_inferd.merge.publish import StageLost, publish
from batch_inferd.money.survey import survey
from batch_inferd.seams.files import Directory
from batch_inferd.services.catalogue import load_services
from batch_inferd.sources import files
from batch_inferd.sources.done import done_ids
from batch_inferd.tasks.chosen_rows import read_rows


def make_link(path):
    target = path.with_name("target")
    target.write_bytes(b"precious\n")
    path.symlink_to(target)


def make_socket(path, monkeypatch):
    monkeypatch.chdir(path.parent)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


KINDS = {"folder": os.mkdir, "pipe": os.mkfifo, "link": make_link, "socket": make_socket}


@pytest.fixture(params=KINDS)
def thing(request, tmp_path, monkeypatch):
    path = tmp_path / "thing"
    make = KINDS[request.param]
    make(path, monkeypatch) if make is make_socket else make(path)
    return request.param, path


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_it_is_named_and_not_opened(thing, flags):
    kind, path = thing
    directory = Directory(path.parent)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotRegularError, match=f"it is a {kind}, and no file"):
        directory.open("thing", flags)
    assert len(os.listdir("/proc/self/fd")) == before
    directory.close()


def test_a_device(tmp_path):
    with pytest.raises(NotRegularError, match="it is a device"):
        open_regular("/dev/null")


def test_files_and_links_to_them(tmp_path):
    make_link(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.close(open_regular(tmp_path / "link"))
    for name, expected in (("nothing", errno.ENOENT), ("dangling", errno.ENOENT), ("link/x", errno.ENOTDIR)):
        with pytest.raises(OSError, match=r".") as caught:
            open_regular(tmp_path / name)
        assert caught.value.errno == expected
        assert not isinstance(caught.value, NotRegularError)
    with pytest.raises(FileExistsError):
        open_regular(tmp_path / "link", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def blocks(path):
    return list(files.read_blocks(path, ""))


def pinned(path):
    os.close(open_pinned(Pin(path, 0, 0, 0, 0)))


READERS = {
    "-schema": read_schema,
    "-rows": read_rows,
    "-done": done_ids,
    "-validate": lambda path: check_file(path, Asked(), Tick()),
    "a list of topics": lambda path: describe("topics", Input(topics_file=path), "messages", "/"),
    "blocks": blocks,
    "the input": pinned,
    "its warning": input_warning,
    "its analysis": lambda path: analyse(path, 100),
    "its records": lambda path: count_records(path, 0, 100, lambda: False, 1000),
    "its estimate": lambda path: survey(path, 100, "messages"),
    "services": lambda path: load_services(Path(path)),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.timeout(20)
def test_what_a_user_names_hangs_nothing(tmp_path, name, kind):
    path = tmp_path / "thing.txt"
    KINDS[kind](path)
    with pytest.raises((OSError, InputError, ConfigError)):
        READERS[name](str(path))


@pytest.mark.timeout(20)
def test_a_pipe_is_no_json(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not starts_as_json(str(tmp_path / "pipe"))


@pytest.mark.timeout(20)
def test_a_publication_that_is_redone_is_not_kept_up(tmp_path):
    os.mkfifo(tmp_path / "output.jsonl")
    directory = Directory(tmp_path)
    with pytest.raises(StageLost):
        publish(directory, 1, {"output.jsonl": {"bytes": 0, "sha256": ""}})
    directory.close()

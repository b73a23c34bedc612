"""The directory handle: nothing is reached through it once it is closed."""

import errno
import os

import pytest

from batch_inferd.seams import files
from batch_inferd.seams.files import Directory

METHODS = {
    "open": lambda directory, _: directory.open("f", os.O_RDONLY),
    "mkdir": lambda directory, _: directory.mkdir("new"),
    "listdir": lambda directory, _: directory.listdir(),
    "rename": lambda directory, _: directory.rename("f", "g"),
    "rename into another": lambda directory, other: directory.rename("f", "g", other),
    "rename out of another": lambda directory, other: other.rename("f", "g", directory),
    "unlink": lambda directory, _: directory.unlink("f"),
    "is_folder": lambda directory, _: directory.is_folder("folder"),
    "rmdir": lambda directory, _: directory.rmdir("folder"),
    "read": lambda directory, _: directory.read("f"),
    "write_atomic": lambda directory, _: directory.write_atomic("f", b"new"),
    "sync": lambda directory, _: directory.sync(),
    "sync a folder": lambda directory, _: directory.sync("folder"),
}


@pytest.fixture(params=[True, False], ids=["handles", "paths"])
def has_handles(request, monkeypatch):
    monkeypatch.setattr(files, "_HAS_DIR_FD", request.param)
    return request.param


def fill(path):
    (path / "folder").mkdir(parents=True)
    (path / "f").write_bytes(b"precious")
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_closed_directory_reaches_nothing(tmp_path, has_handles, method):
    # The folder at the path is another task's by now: it has the same names.
    directory, other = Directory(fill(tmp_path / "t")), Directory(fill(tmp_path / "other"))
    directory.close()
    directory.close()
    with pytest.raises(OSError, match="closed") as caught:
        METHODS[method](directory, other)
    assert caught.value.errno == errno.EBADF
    for path in (directory.path, other.path):
        assert sorted(os.listdir(path)) == ["f", "folder"]
        assert (path / "f").read_bytes() == b"precious"
    assert not directory.still_there()
    assert other.still_there()
    other.close()


@pytest.mark.parametrize("method", METHODS)
def test_an_open_directory_does_it_with_handles_and_with_paths(tmp_path, has_handles, method):
    directory, other = Directory(fill(tmp_path / "t")), Directory(fill(tmp_path / "other"))
    assert (directory.handle is not None) == has_handles
    fd = METHODS[method](directory, other)
    if method == "open":
        os.close(fd)
    directory.close()
    other.close()


def test_a_handle_that_complains_at_its_close_is_closed(tmp_path, monkeypatch):
    directory = Directory(tmp_path)
    real = os.close

    def close(fd):
        real(fd)
        raise OSError(errno.EIO, "told late")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(OSError, match="told late"):
            directory.close()
    directory.close()  # not once more: the number may be somebody else's by now

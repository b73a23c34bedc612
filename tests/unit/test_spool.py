"""The spool: whole lines only, gone on with after every kind of end; choosing what an input is."""

import contextlib
import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.protocol.errors import InputError
from batch_inferd.config.schema import Input
from batch_inferd.intake.choose import choose
from batch_inferd.intake.linefile import LineFile, survey
from batch_inferd.intake.spool import SpoolSink, SpoolStopped, pour, record_id
from batch_inferd.seams.files import Directory
from batch_inferd.sources.open import open_source
from batch_inferd.sources.spec import SourceSpec

NAME = "input.jsonl"


@pytest.fixture
def folder(tmp_path):
    directory = Directory(tmp_path)
    yield directory
    directory.close()


def topics(count, **more):
    return open_source(SourceSpec(kind="topics", topics=[f"t{n}" for n in range(count)], **more))


def spool(folder, source, **options):
    file = LineFile(folder, NAME)
    try:
        return pour(source, SpoolSink(file), **options)
    finally:
        file.close()


def ids(tmp_path):
    return [json.loads(line)["custom_id"] for line in (tmp_path / NAME).read_bytes().splitlines()]


class Broken:
    """A source that fails after some records."""

    def __init__(self, source, after, error):
        self.source, self.after, self.error = source, after, error

    def records(self, start=0, last=None):
        for number, line in enumerate(self.source.records(start, last)):
            if number == self.after:
                raise self.error
            yield line


@given(
    st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.binary(max_size=9),
)
def test_a_survey_counts_whole_lines(tmp_path_factory, lines, torn):
    path = tmp_path_factory.mktemp("survey") / "f"
    torn = torn.replace(b"\n", b"")
    path.write_bytes(b"".join(line + b"\n" for line in lines) + torn)
    fd = os.open(path, os.O_RDONLY)
    try:
        found = survey(fd)
    finally:
        os.close(fd)
    end = sum(len(line) + 1 for line in lines)
    assert found == (len(lines), end - len(lines[-1]) - 1 if lines else 0, end)


def test_a_survey_over_block_borders(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("batch_inferd.intake.linefile.BLOCK", 4)
    (tmp_path / NAME).write_bytes(b"abcdefg\n\nxyz\nto")
    file = LineFile(folder, NAME)
    assert (file.lines, file.last, file.size) == (3, b"xyz", 13)
    file.append(b"one", b"two words")
    assert (file.lines, file.last) == (5, b"two words")
    file.cut(2)
    assert (file.lines, file.last) == (2, b"")
    file.append(b"more")
    file.close()
    assert (tmp_path / NAME).read_bytes() == b"abcdefg\n\nmore\n"


@pytest.mark.parametrize("torn", [0, 1, 30])
@pytest.mark.parametrize("kept", [0, 1, 7, 20])
def test_a_torn_line_is_cut_and_written_again(tmp_path, folder, kept, torn):
    spool(folder, topics(20))
    whole = (tmp_path / NAME).read_bytes()
    lines = whole.splitlines(keepends=True)
    rest = lines[kept][:torn] if kept < 20 else b"x" * torn
    (tmp_path / NAME).write_bytes(b"".join(lines[:kept]) + rest)
    assert spool(folder, topics(20)).records == 20
    assert (tmp_path / NAME).read_bytes() == whole


def test_iterations_go_on_in_their_middle(tmp_path, folder):
    with pytest.raises(InputError):
        spool(folder, Broken(topics(3, iterations=3), 4, OSError(errno.EIO, "gone")))
    assert len(ids(tmp_path)) <= 4
    spool(folder, topics(3, iterations=3))
    assert ids(tmp_path) == [f"t{n}/{k}" for n in range(3) for k in (1, 2, 3)]


def test_what_is_done_is_left_out_before_and_after_a_break(tmp_path, folder):
    done = frozenset(f"t{n}/1" for n in (0, 3, 4, 9))
    calls = iter([False] * 6 + [True])
    with pytest.raises(SpoolStopped):
        spool(folder, topics(10), done=done, stop=lambda: next(calls))
    assert ids(tmp_path) == ["t1/1", "t2/1", "t5/1"]
    assert spool(folder, topics(10), done=done).skipped == 4
    assert ids(tmp_path) == [f"t{n}/1" for n in (1, 2, 5, 6, 7, 8)]


@given(st.data())
def test_what_is_done_is_counted_once_whatever_breaks(tmp_path_factory, data):
    """Also when the last records were lost with the power, and with rows that count more than once."""
    rows, each, start = (data.draw(st.integers(*span)) for span in ((1, 6), (1, 3), (0, 2)))
    whole = [f"t{n}/{k}" for n in range(start, rows + start) for k in range(1, each + 1)]
    done = frozenset(data.draw(st.lists(st.sampled_from([*whole, "other"]))))
    path = tmp_path_factory.mktemp("spool")
    directory = Directory(path)
    source = topics(rows + start, iterations=each, start_row=start)
    try:
        for _ in range(data.draw(st.integers(0, 3))):
            left = iter([False] * data.draw(st.integers(0, len(whole))))
            with contextlib.suppress(SpoolStopped):
                spool(directory, source, done=done, stop=lambda left=left: next(left, True))
            kept = (path / NAME).read_bytes().splitlines(keepends=True)
            (path / NAME).write_bytes(b"".join(kept[: data.draw(st.integers(0, len(kept)))]))
        poured = spool(directory, source, done=done)
    finally:
        directory.close()
    assert ids(path) == [one for one in whole if one not in done]
    assert poured == (len(whole) - poured.skipped, sum(one in done for one in whole), False)


def test_a_limit_and_whether_there_is_more(tmp_path, folder):
    assert spool(folder, topics(10), limit=4)[::2] == (4, True)
    assert spool(folder, topics(10), limit=4)[::2] == (4, True)
    assert spool(folder, topics(10), limit=10)[::2] == (10, False)
    assert len(ids(tmp_path)) == 10


def test_trouble_with_the_source_and_with_the_disk_are_told_apart(folder, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        spool(folder, Broken(topics(5), 2, OSError(errno.EIO, "gone")))
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:{NAME}={errno.ENOSPC}")
    with pytest.raises(OSError, match="planned") as caught:
        spool(folder, topics(5))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    assert spool(folder, topics(5)).records == 5
    assert ids(tmp_path) == [f"t{n}/1" for n in range(5)]


def test_an_id_with_escapes():
    assert record_id(b'{"custom_id":"a\\u4f60","x":1}') == "a你"
    assert record_id(b'{"custom_id":"\\ud800"}') == "\ud800"


@pytest.mark.parametrize(
    ("name", "content", "given", "kind"),
    [
        ("a.jsonl", b'{"messages":[]}\n', {}, None),
        ("a.jsonl", b"no json\n", {}, None),
        ("a.jsonl", b'{"messages":[]}\n', {"start_row": 3}, "jsonl"),
        ("a.jsonl", b'{"messages":[]}\n', {"end_row": 3}, "jsonl"),
        ("a.jsonl", b'{"messages":[]}\n', {"iterations": 2}, "jsonl"),
        ("a.jsonl", b'{"messages":[]}\n', {"done": "x"}, "jsonl"),
        ("a.jsonl", b'{"id":"1","input_prompt":"q","images":[]}\n', {}, "chat_images"),
        ("a", b'{"messages":[]}\n', {}, None),
        ("a.csv", b"a,b\n1,2\n", {}, "csv"),
        ("a.txt", b"one\ntwo\n", {}, "topics"),
        ("a.txt", b'{"messages":[]}\n', {}, None),
    ],
)
def test_what_an_input_is(tmp_path, name, content, given, kind):
    path = tmp_path / name
    path.write_bytes(content)
    spec = choose(str(path), Input(**given), "messages", str(tmp_path))
    assert (spec and spec.kind) == kind


def test_topics_of_the_config_and_of_a_list(tmp_path):
    (tmp_path / "list.txt").write_text("人工智能\n\n two \n", encoding="gb18030")
    for path, section in (
        ("topics", Input(topics=["人工智能", "two"])),
        ("topics", Input(topics_file="list.txt")),
        (str(tmp_path / "list.txt"), Input()),
    ):
        spec = choose(path, section, "messages", str(tmp_path))
        assert (spec.kind, spec.path, spec.topics) == ("topics", "", ["人工智能", "two"])

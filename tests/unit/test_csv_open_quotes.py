"""Quotes that are never closed: what comes of them, and that it does not take long."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_inferd.sources.csvrows import Record, read_records
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec

LINES = st.lists(st.text('",a;\n', max_size=7).map(lambda text: text.replace("\n", "") + "\n"), max_size=12)


class Open(Exception):  # noqa: N818  as the one it is compared with
    pass


def plainly(lines, delimiter, limit):
    """Each record is looked for from its first line on, however far that is."""
    at = 0
    while at < len(lines):
        taken: list[str] = []

        def feed(begin=at, taken=taken):
            for line in lines[begin:]:
                taken.append(line)
                if sum(map(len, taken)) > limit:
                    raise Open
                yield line
            raise Open

        problem = ""
        try:
            cells = next(csv.reader(feed(), delimiter=delimiter, strict=True))
            used = len(taken)
        except Open:
            cells, used = [], 1
            long = len(taken) == 1 and len(taken[0]) > limit
            problem = f"longer than {limit}" if long else "never closed"
        except csv.Error:
            used = 1
            if len(taken) == 1:
                cells = next(csv.reader([taken[0]], delimiter=delimiter))
            else:
                cells, problem = [], "not closed as it should be"
        yield Record(at + 1, cells, problem)
        at += used


def same(found, wanted):
    assert [(one.line, one.cells) for one in found] == [(one.line, one.cells) for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert bool(one.problem) == bool(other.problem)
        assert other.problem in one.problem


@settings(max_examples=600, deadline=None)
@given(lines=LINES, limit=st.integers(1, 60))
@example(lines=['x","y\n'] * 8, limit=24)
@example(lines=['x","y\n'] * 8 + ['"z\n'], limit=1000)
@example(lines=['x","y\n'] * 5 + ['"z"a,\n', "b\n"], limit=30)
@example(lines=['"a\n', '"b\n', 'c"d\n', "e\n"], limit=100)
def test_records_are_those_of_looking_ahead_each_time(lines, limit):
    same(list(read_records(iter(lines), ",", limit)), list(plainly(lines, ",", limit)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("limit", [10_000_000, 60_000])
@pytest.mark.parametrize("last", ["", '"z"a\n'])
def test_a_quote_that_each_line_leaves_open_takes_no_longer_than_others(limit, last):
    lines = [*['x","y\n'] * 40_000, *([last] if last else [])]
    problems = [record for record in read_records(iter(lines), ",", limit) if record.problem]
    assert len(problems) >= 39_000


@pytest.mark.timeout(30)
def test_such_a_file_is_read_row_by_row(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("a,b\n" + 'x","y\n' * 20_000 + "1,2\n")
    spec = detect(str(path), SourceSpec(kind="", prompt="{a}", end_row=20_000))
    errors = [json.loads(line)["$error"]["message"] for line in open_source(spec).records()]
    assert len(errors) == 20_000
    assert errors[0].startswith("q.csv, line 2 (row 0): a quote opens on this line")

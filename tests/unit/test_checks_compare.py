"""What happened to a file is told apart, by line numbers."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.checks.compare import compare
from batch_inferd.checks.content import Stopped, Tick

GOOD = [f"line {n}" for n in range(1, 21)]


@pytest.fixture
def found(tmp_path):
    """What is found when `now` (text or lines) stands where `good` should."""

    def look(now, good=GOOD):
        fds = []
        for name, content in (("now", now), ("good", good)):
            text = content if isinstance(content, str) else "".join(f"{line}\n" for line in content)
            (tmp_path / name).write_text(text)
            fds.append(os.open(tmp_path / name, os.O_RDONLY))
        try:
            return {f.what: f for f in compare(*fds, Tick())}
        finally:
            for fd in fds:
                os.close(fd)

    return look


def one(found, what):
    assert list(found) == [what], found
    return found[what]


def test_the_same_file_has_no_findings(found):
    assert found(GOOD) == {}
    assert found([], []) == {}
    assert found(["a", "a", "b"], ["a", "a", "b"]) == {}


def test_truncated_between_lines(found):
    finding = one(found(GOOD[:15]), "truncated")
    assert (finding.count, finding.lines) == (5, (16, 17, 18, 19, 20))
    assert "from line 16 on, 5 lines are missing" in str(finding.text)


def test_truncated_in_the_middle_of_a_line(found):
    whole = "".join(f"{line}\n" for line in GOOD)
    finding = one(found(whole[: whole.index("line 16") + 5]), "truncated")
    assert finding.count == 5
    assert "in the middle of line 16" in str(finding.text)
    finding = one(found(whole[:-3]), "truncated")
    assert (finding.count, finding.lines) == (1, (20,))


def test_only_the_last_newline_is_missing(found):
    finding = one(found("".join(f"{line}\n" for line in GOOD)[:-1]), "truncated")
    assert finding.count == 0
    assert "only the newline at its end is missing" in str(finding.text)


def test_emptied(found):
    assert one(found([]), "truncated").count == 20


@pytest.mark.parametrize("at", [0, 3, 10, 20])
def test_duplicated_wherever_the_copy_stands(found, at):
    now = GOOD.copy()
    now.insert(at, "line 7")
    finding = one(found(now), "duplicated")
    assert finding.count == 1
    first, again = sorted([at + 1, 7 + (at < 7)])
    assert (finding.lines, finding.of) == ((again,), (first,))


def test_a_file_that_stands_there_twice(found):
    finding = one(found(GOOD + GOOD), "duplicated")
    assert finding.count == 20
    assert finding.lines == tuple(range(21, 31))
    assert finding.of == tuple(range(1, 11))


def test_reordered(found):
    now = GOOD.copy()
    now[2], now[6] = now[6], now[2]
    finding = one(found(now), "reordered")
    assert (finding.count, finding.lines) == (2, (3, 7))
    assert one(found(GOOD[::-1]), "reordered").count == 20


def test_edited(found):
    now = GOOD.copy()
    now[4] = "changed by hand"
    now[19] = "the last one too"
    finding = one(found(now), "edited")
    assert (finding.count, finding.lines) == (2, (5, 20))
    assert one(found([f"{line}\r" for line in GOOD]), "edited").count == 20


def test_lost_in_the_middle(found):
    finding = one(found(GOOD[:9] + GOOD[11:]), "lost")
    assert (finding.count, finding.lines) == (2, (10, 11))


def test_a_line_that_does_not_belong_to_it(found):
    finding = one(found([*GOOD[:9], "who is that", *GOOD[9:]]), "foreign")
    assert finding.lines == (10,)


def test_a_line_overwritten_by_a_copy_of_another(found):
    now = GOOD.copy()
    now[8] = GOOD[2]
    both = found(now)
    assert set(both) == {"duplicated", "lost"}
    assert (both["duplicated"].lines, both["duplicated"].of) == ((9,), (3,))
    assert both["lost"].lines == (9,)


def test_several_things_at_once(found):
    now = GOOD[:15]
    now[2], now[6] = now[6], now[2]
    now[10] = "changed"
    now.insert(12, "line 1")
    assert set(found(now)) == {"truncated", "duplicated", "reordered", "edited"}


def test_lines_that_are_alike_in_the_good_file(found):
    good = ["a", "same", "b", "same", "c"]
    assert one(found(["a", "same", "b", "same", "same", "c"], good), "duplicated").lines == (5,)
    assert one(found(["a", "same", "b", "c"], good), "lost").count == 1


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e"])), st.lists(st.sampled_from(["a", "b", "c", "f"])))
def test_whatever_differs_is_found(tmp_path_factory, now, good):
    folder = tmp_path_factory.mktemp("x")
    fds = []
    for name, lines in (("now", now), ("good", good)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
        fds.append(os.open(folder / name, os.O_RDONLY))
    findings = compare(*fds, Tick())
    for fd in fds:
        os.close(fd)
    assert bool(findings) == (now != good)


def test_it_stops_when_it_is_told(tmp_path):
    (tmp_path / "f").write_text("x\n" * 1000)
    tick = Tick()
    tick.stop.set()
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    with pytest.raises(Stopped):
        compare(fd, fd, tick)
    os.close(fd)


def test_many_lines(found):
    lines = [f"{n} {random.Random(n).random()}" for n in range(20_000)]
    now = lines.copy()
    now[100], now[15_000] = now[15_000], now[100]
    assert one(found(now, lines), "reordered").lines == (101, 15_001)

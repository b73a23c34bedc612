"""-retry ID -chunks 3,7-9: the list as people write it, and what is said about wrong ones."""

import json
from itertools import pairwise

import pytest
from cli_fakes import Cli, FakePeer
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.cli.chunk_ranges import ENTRIES_MAX, parse_ranges
from batch_infer.cli.parser import parse
from batch_infer.cli.request import Request
from batch_infer.protocol.errors import TaskIdError, UsageError
from batch_infer.protocol.workspace import Workspace
from batch_infer.render.columns import width


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["3,7-9"],
        ["7-9,3"],
        ["3, 7-9"],
        ["3,", "7-9"],
        ["3", "7-9"],
        ["3 , 7 - 9"],
        ["3,7", "-", "9"],
        [" 3,\t7-\n9 "],
        ["003,7-009"],
        ["9,8,7,3,3"],
        ["7-8,8-9,3"],
        ["7,8-9,3-3"],
    ],
)
def test_it_is_merged_and_in_order(words):
    assert parse_ranges(words) == ((3, 3), (7, 9))


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), min_size=1, max_size=30))
def test_it_holds_exactly_the_numbers_that_were_named(pairs):
    found = parse_ranges([",".join(f"{n}-{n + more}" for n, more in pairs)])
    named = {k for n, more in pairs for k in range(n, n + more + 1)}
    assert {k for first, last in found for k in range(first, last + 1)} == named
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(found))


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("x", "found 'x'", "numbers and ranges of chunks, such as 3,7-9"),
        ("3,all,7", "found 'all'", "such as 3,7-9"),
        ("3-7-9", "found '3-7-9'", "such as 3,7-9"),
        ("-3", "found '-3'", "such as 3,7-9"),
        ("3-", "found '3-'", "such as 3,7-9"),
        ("1.5", "found '1.5'", "such as 3,7-9"),
        ("3..9", "found '3..9'", "such as 3,7-9"),
        ("3，7", "found '3，7'", "such as 3,7-9"),
        ("３", "found '３'", "such as 3,7-9"),
        ("第三块", "found '第三块'", "such as 3,7-9"),
        ("3,,7", "an entry is empty", "such as 3,7-9"),
        ("3,", "an entry is empty", "such as 3,7-9"),
        (",", "an entry is empty", "such as 3,7-9"),
        ("0", "found '0'", "chunk numbers from 1 to 1,000,000,000"),
        ("0-3", "found '0-3'", "from 1"),
        ("1000000001", "found '1000000001'", "to 1,000,000,000"),
        ("1-9999999999", "found '1-9999999999'", "to 1,000,000,000"),
        ("9-7", "found '9-7'", "a range that goes up, such as 7-9"),
        ("9" * 5000, f"found '{'9' * 39}…'", "such as 3,7-9"),
        ("\x1b[2J", "found '\\x1b[2J'", "such as 3,7-9"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_expected(text, found, expected):
    with pytest.raises(UsageError) as caught:
        parse_ranges([text])
    said = str(caught.value.text)
    assert found in said
    assert expected in said
    assert caught.value.exit_code == 2
    assert width(said) < 150


def test_a_list_has_ten_thousand_entries_at_most():
    assert len(parse_ranges([",".join(str(2 * n) for n in range(1, ENTRIES_MAX + 1))])) == ENTRIES_MAX
    with pytest.raises(UsageError) as caught:
        parse_ranges(["1"] * (ENTRIES_MAX + 1))
    assert str(caught.value.text) == "-chunks takes at most 10,000 numbers and ranges; found 10,001"


@pytest.mark.parametrize(
    "line",
    [
        "-retry A -chunks 3,7-9",
        "-retry A -chunks 3, 7-9",
        "-retry A -chunks=3,7-9",
        "-retry A -chunks=3 7 - 9",
        "-retry A -chunks 3 -chunks 7-9",
        "-chunks 3,7-9 -retry A",
        "-retry -chunks 3,7-9 A",
        "--retry=A --chunks=3,7-9",
    ],
)
def test_the_command_line(line):
    assert parse(line.split()) == Request("retry", ids=("A",), chunks=((3, 3), (7, 9)))


@pytest.mark.parametrize(
    ("line", "said", "hinted"),
    [
        ("-retry A -chunks", "-chunks needs a value: -chunks LIST…", ""),
        ("-retry A -chunks=", "-chunks needs a value: -chunks LIST…", ""),
        ("-retry -chunks A", "-chunks needs a value: -chunks LIST…", ""),
        ("-resume A -chunks 3", "-chunks and -resume do not go together", "-chunks goes with -retry"),
        ("-chunks 3", "-chunks needs a command", "-help"),
        ("-retry A -chunks 3 B", "found 'B'", ""),
    ],
)
def test_wrong_command_lines(line, said, hinted):
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert said in str(caught.value.text)
    assert hinted in " / ".join(map(str, caught.value.hints))


def test_a_list_is_no_task_id():
    with pytest.raises(TaskIdError):
        parse(["-retry", "-chunks", "3", "7-9"])


def test_what_is_sent(ws):
    peer = FakePeer({"retry": lambda _: {"state": "running", "round": 1, "records": 2}})
    assert Cli(ws, [peer])("-retry", "demo", "-chunks", "9-10,3", "-json") == 0
    assert peer.asked("retry") == [{"task_id": "demo", "chunks": [[3, 3], [9, 10]]}]
    peer = FakePeer({"retry": lambda _: {"state": "running", "round": 1, "records": 2}})
    assert Cli(ws, [peer])("-retry", "demo") == 0
    assert peer.asked("retry") == [{"task_id": "demo"}]


def test_a_wrong_list_is_told_before_a_daemon_is_asked(ws):
    cli = Cli(ws, [])
    assert cli("-retry", "demo", "-chunks", "3,七") == 2
    assert cli.stdout == ""
    assert cli.stderr == (
        "error: -chunks: found '七'; expected are numbers and ranges of chunks, such as 3,7-9\n"
    )


def test_nothing_to_try_in_those_chunks(ws):
    cli = Cli(ws, [FakePeer({"retry": lambda _: {"state": "completed", "round": 0, "records": 0}})])
    assert cli("-retry", "demo", "-chunks", "9", "3,8,7", "-json") == 0
    assert "nothing to try again: no failed or missing records in the chunks 3,7-9\n" in cli.stderr
    assert json.loads(cli.stdout)["records"] == 0

"""The table of submissions: columns, unknown and hostile values, narrow terminals, which rows it has."""

import pytest
from cli_fakes import HOSTILE, NOW, collected, squeezed, submission, waits_for
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.render.batch_text import submission_table, worth_showing
from batch_infer.render.columns import cell, cut_middle, width


class TestCell:
    def test_what_a_service_says_stays_on_its_line(self):
        assert cell(HOSTILE, 60) == "ba\ufffd[2Jtch id\ufffd\ufffd \ufffd1m"
        assert cell("  a   b ", 60) == "a b"
        assert cell("", 5) == ""

    @given(st.text(max_size=200), st.integers(1, 20))
    def test_it_is_never_wider(self, text, cells):
        shown = cell(text, cells)
        assert width(shown) <= cells
        assert shown.isprintable()

    def test_a_very_long_one_is_cheap(self):
        assert cell("任" * 10_000_000, 9) == "任任任任…"


@given(st.text(st.sampled_from("ab任务é"), max_size=30), st.integers(1, 20))
def test_an_id_is_cut_in_its_middle(text, cells):
    shown = cut_middle(text, cells)
    assert width(shown) <= cells
    head, cutting, tail = shown.partition("…")
    assert shown == text if not cutting else text.startswith(head) and text.endswith(tail)


class TestTable:
    def row(self, lang="en", **changes):
        return submission_table([submission(7, **changes)], lang)[1]

    def test_columns(self):
        rows = [submission(7, waiting=waits_for()), collected(8), submission(123, batch="任务批次")]
        head, *lines = submission_table(rows, "en")
        assert head.split() == [*("#", "BATCH", "STATE", "DONE", "FAILED", "AGE", "LEFT", "WAITING", "FOR")]
        assert [line.split("  ") for line in map(squeezed, lines)] == [
            [
                "7",
                "batch_0007",
                "live (in_progress)",
                "120 of 500",
                "1",
                "2h 10m",
                "21h 50m",
                "the account's queue is full",
            ],
            ["8", "batch_0008", "collected (completed)", "499 of 500", "1", "2h 10m"],
            ["123", "任务批次", "live (in_progress)", "120 of 500", "1", "2h 10m", "21h 50m"],
        ]
        edge = head.index("DONE") + len("DONE")
        assert all(width(line.partition("of 500")[0] + "of 500") == edge for line in lines)

    def test_nobody_waits(self):
        assert "WAITING" not in submission_table([submission(7)], "en")[0]

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            (
                {"batch": None, "upstream_state": None, "state": "waiting_for_capacity", "age_s": None}
                | {"counts": {"total": None, "completed": None, "failed": None}, "left_s": None},
                ["7", "waiting for capacity", "0 of 500"],
            ),
            (
                {"counts": {"total": None, "completed": None, "failed": None}},
                ["7", "batch_0007", "live (in_progress)", "? of 500", "2h 10m", "21h 50m"],
            ),
            (
                {"counts": {"total": 0, "completed": 0, "failed": 0}, "upstream_state": "validating"},
                ["7", "batch_0007", "live (validating)", "0 of 500", "0", "2h 10m", "21h 50m"],
            ),
            (
                {"counts": None, "state": "collected", "results": {"answered": 480, "failed": 20}},
                ["7", "batch_0007", "collected (in_progress)", "480 of 500", "20", "2h 10m"],
            ),
            (
                {"left_s": -900.0, "age_s": -1.0, "state": "never_heard_of"},
                ["7", "batch_0007", "never_heard_of (in_progress)", "120 of 500", "1", "0s", "0s"],
            ),
        ],
    )
    def test_what_is_unknown(self, changes, parts):
        assert squeezed(self.row(**changes)).split("  ") == parts

    def test_time_goes_on_for_those_that_run(self):
        rows = [submission(7), collected(8), submission(9, ended=NOW, state="ended")]
        lines = submission_table(rows, "en", elapsed=3_600.0)[1:]
        assert [squeezed(line).split("  ")[5:] for line in lines] == [
            ["3h 10m", "20h 50m"],
            ["2h 10m"],
            ["2h 10m"],
        ]

    def test_hostile_values(self):
        changes = {
            "batch": HOSTILE + "任" * 500,
            "upstream_state": "\x1b]0;title\x07" + "x" * 500,
            "state": "\x9b2J",
            "waiting": waits_for(text="{no} \x1b[31m\nfield " + "y" * 500),
            "counts": {"total": 10**18, "completed": -1, "failed": 10**18},
        }
        lines = submission_table([submission(7, **changes)], "en")
        assert len(lines) == 2
        assert lines[1].isprintable()
        assert width(lines[1]) < 260

    @pytest.mark.parametrize("cells", [20, 60, 80, 100, 160])
    def test_narrow_terminals_keep_the_figures(self, cells):
        rows = [
            submission(7, batch="batch_" + "0" * 32, waiting=waits_for()),
            submission(8, batch="批次" * 20, upstream_state="进行中"),
        ]
        lines = submission_table(rows, "en", cells=cells)
        assert "120 of 500" in lines[1]
        assert "21h 50m" in lines[1]
        assert cells < 100 or max(map(width, lines)) <= cells
        assert cells < 160 or "0" * 32 in lines[1]
        assert len({width(line.partition("120 of 500")[0]) for line in lines[1:]}) == 1
        if cells < 160:
            assert "batch_" in lines[1]
            assert "…" in lines[1].split()[1]

    @pytest.mark.parametrize(
        "state",
        [
            *("packed", "uploading", "uploaded", "waiting_for_capacity", "creating", "unsettled", "live"),
            *("cancelling", "ended", "collecting", "collected", "refused", "dropped"),
        ],
    )
    def test_every_state_has_a_name_in_every_language(self, state):
        for lang in ("en", "zh"):
            line = self.row(lang, state=state, upstream_state="进行中")
            assert "进行中" in line
            assert "_f" not in line


def test_open_ones_come_first_and_then_the_newest_of_the_others():
    rows = [collected(n) if n % 4 else submission(n) for n in range(1, 41)]
    shown = [row["submission"] for row in worth_showing(rows, 20)]
    assert shown == [4, 8, 12, 16, 20, 24, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40]
    assert len(worth_showing(rows, 5)) == 5
    assert worth_showing(rows[:3], 20) == rows[:3]
    refused = [collected(1, state="refused"), collected(2, state="dropped"), submission(3)]
    assert [row["submission"] for row in worth_showing(refused, 2)] == [2, 3]

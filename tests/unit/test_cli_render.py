"""Columns, numbers, texts and the live view."""

import io
import os

import pytest
from cli_fakes import NOW, FakePeer, Time, ended, reason, summary
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.chunk_window import ChunkWindow
from batch_infer.render.columns import cut, pad, table, width, wrap
from batch_infer.render.console import Console
from batch_infer.render.live import Live
from batch_infer.render.public import public_task
from batch_infer.render.task_fields import progress, waits
from batch_infer.render.task_text import end_summary, next_steps, task_detail, task_list


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.count(1_234_567), "1,234,567"),
        (numbers.share(0), "0.0%"),
        (numbers.share(0.9999), "99.9%"),
        (numbers.share(1.0), "100.0%"),
        (numbers.share(1.5), "100.0%"),
        (numbers.rate(35.24), "35.2/s"),
        (numbers.rate(12_345.6), "12,346/s"),
        (numbers.duration(0.4), "0:00:00"),
        (numbers.duration(3_723.6), "1:02:04"),
        (numbers.duration(360_000), "100:00:00"),
        (numbers.duration(-5), "0:00:00"),
        (numbers.size(0), "0 B"),
        (numbers.size(1023), "1023 B"),
        (numbers.size(1536), "1.5 KiB"),
        (numbers.size(100 * 1024**3), "100.0 GiB"),
        (numbers.money(1234.5, "USD"), "1,234.5000 USD"),
        (numbers.money(0.0000153, "CNY"), "0.0000153 CNY"),
        (numbers.money(0, ""), "0.0000"),
    ],
)
def test_numbers(shown, expected):
    assert shown == expected


COST = {"currency": "USD", "spent": 0.5, "forecast": 1.2, "per_record": 0.00412, "unknown_records": 2}


def test_width_counts_cells():
    assert [width(text) for text in ("abc", "任务", "a任", "e\u0301", "ﾊ", "")] == [3, 4, 3, 1, 1, 0]


@given(st.text(max_size=30), st.integers(1, 20))
def test_cut_never_passes_its_width(text, cells):
    assert width(cut(text, cells)) <= cells
    if width(text) <= cells:
        assert cut(text, cells) == text


def test_pad_and_table():
    assert pad("任", 4) == "任  "
    assert pad("7", 3, right=True) == "  7"
    assert table([["id", "n"], ["任务", "10"]], right={1}) == ["id     n", "任务  10"]
    assert table([]) == []


@given(
    st.lists(st.sampled_from(["word", "任务", "，", "。", " ", "a-b", "x" * 12]), max_size=20),
    st.integers(14, 30),
)
def test_wrap_keeps_all_but_spaces(parts, cells):
    text = " ".join(parts)
    lines = wrap(text, cells)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(width(line) <= cells for line in lines)


def test_chinese_wraps_between_characters_and_not_before_punctuation():
    assert wrap("每一行输入都有交代。", 18) == ["每一行输入都有交", "代。"]


def test_what_a_task_waits_for():
    text = Text("the network is down").to_wire()
    task = summary(
        waiting=[
            {"code": "network", "text": text, "since": NOW - 65, "next_try": NOW + 5},
            {"code": "retry", "text": text, "since": None, "next_try": None},
            {"code": "x", "text": text, "since": NOW - 1, "next_try": NOW - 1},
        ]
    )
    assert waits(task, "en", NOW) == [
        "the network is down (for 0:01:05); next try in 0:00:05",
        "the network is down",
        "the network is down (for 0:00:01)",
    ]


def waiting(code):
    return {"code": code, "text": Text("so it is").to_wire(), "since": None, "next_try": None}


class TestEnd:
    def test_completed(self):
        lines = end_summary(ended(started=NOW - 10, quota={"x-ratelimit-remaining-requests": "99"}), "en")
        assert lines[0] == "task demo completed"
        assert [" ".join(line.split()) for line in lines[1:]] == [
            "time 10.0 s · 30.0/s",
            "records answered 300, errors 0, missing 0, pending 0, retries 7, blank lines 2",
            "chunks in work 1, done 1",
            "tokens 1,200 in, 3,400 out",
            "input read 2.0 KiB / 4.0 KiB",
            "quota x-ratelimit-remaining-requests: 99",
            "accounted for 300 in = 300 answered + 0 errors + 0 missing",
            "outputs /ws/merged/demo",
            "output.jsonl (300 lines)",
            "error_retry0.jsonl (0 lines)",
            "missing_records.jsonl (0 lines)",
            "report.json",
        ]

    def test_a_cancelled_task_has_pending_records(self):
        counts = {"output": 120, "error": 3, "pending": 177}
        lines = end_summary(ended(state="cancelled", counts=counts), "en")
        assert "300 in = 120 answered + 3 errors + 0 missing + 177 pending" in "\n".join(lines)

    def test_a_failed_task_names_no_outputs(self):
        lines = end_summary(ended(state="failed", reason=reason("identity", "7 != 8"), identity=False), "en")
        assert lines[0] == "task demo failed: 7 != 8"
        assert not any("jsonl" in line or "accounted" in line for line in lines)

    def test_next_steps(self):
        assert next_steps(ended()) == []
        assert next_steps(ended(state="cancelled")) == []
        assert "-logs demo" in str(next_steps(ended(state="failed"))[0])
        assert "-retry demo" in str(next_steps(ended(counts={"missing": 1}))[0])
        wrong = ended(counts={"output": 298, "error": 2})
        assert "-retry demo" in str(next_steps(wrong, ["invalid_input", "server_error"])[0])
        steps = next_steps(wrong, ["invalid_input"])
        assert "/ws/merged/demo/error_retry0.jsonl" in str(steps[0])
        assert not any("-retry demo" in str(step) for step in steps)

    @pytest.mark.parametrize(
        ("code", "steps"),
        [
            ("auth", ["once the config is fixed: batch_infer -resume demo -config FILE"]),
            (
                "model",
                [
                    "once it is fixed: batch_infer -resume demo",
                    (
                        "or, to run it another way: batch_infer -cancel demo, "
                        "and submit the input under a new task-id"
                    ),
                ],
            ),
            ("io", ["once the disk is fixed: batch_infer -resume demo"]),
            ("moved", ["to take it over: batch_infer -resume demo"]),
            ("user", ["to go on: batch_infer -resume demo"]),
            (
                "input_changed",
                [
                    "restore the input /ws/in.jsonl, then: batch_infer -resume demo",
                    "or submit the input as it is now under a new task-id",
                ],
            ),
            (
                "bug",
                ["the log says more: batch_infer -logs demo", "to go on: batch_infer -resume demo"],
            ),
            ("disk_full", []),
            ("credit", []),
            ("never_heard_of", ["once it is fixed: batch_infer -resume demo"]),
        ],
    )
    def test_what_to_do_about_a_pause_depends_on_its_reason(self, code, steps):
        assert list(map(str, next_steps(summary(state="paused", reason=reason(code))))) == steps

    def test_what_was_never_read(self):
        task = ended(state="cancelled", unread={"line": 1401, "byte": 99})
        assert "not read: from line 1,401 on" in "\n".join(end_summary(task, "en"))
        assert "not read: from line 1,401 on" in "\n".join(task_detail(task, "en", NOW))

    def test_one_line(self):
        lines = end_summary(ended(counts={"output": 299, "error": 1}), "en")
        assert any(line.endswith("error_retry0.jsonl (1 line)") for line in lines)


class TestList:
    def row(self, lang="en", **changes):
        return task_list([summary(**changes)], lang)[1]

    def test_what_it_waits_for_stands_behind_the_state(self):
        assert "running (network)" in self.row(waiting=[waiting("network")])
        assert "running (rate_limit)" in self.row(waiting=[waiting("retry"), waiting("rate_limit")])
        assert "(" not in self.row(waiting=[waiting("retry")])
        assert "paused (auth)" in self.row(state="paused", reason=reason("auth"))
        assert "已暂停（手动）" in self.row("zh", state="paused", reason=reason("user"))

    def test_nobody_knows_when_the_network_returns(self):
        assert "0:00:05" in self.row()
        assert "0:00:05" not in self.row(waiting=[waiting("network")])
        assert "left" not in progress(summary(waiting=[waiting("network")]), "en")
        assert public_task(summary(waiting=[waiting("network")]), "en")["eta_s"] is None
        assert public_task(summary(), "en")["eta_s"] == 5.0


class TestWindow:
    def peer(self, states):
        def answer(params):
            start = params["cursor"] or 0
            part = [{"chunk": n + 1, "state": s} for n, s in enumerate(states)][
                start : start + params["limit"]
            ]
            return {"chunks": part, "next": part[-1]["chunk"] if start + len(part) < len(states) else None}

        return FakePeer({"status": answer})

    def test_it_moves_along_with_the_work(self):
        states = ["done"] * 3000 + ["leased"] * 2 + ["ready"] * 3000
        time, peer = Time(), self.peer(states)
        window = ChunkWindow("demo", time.monotonic)
        window.refresh(peer)
        assert [chunk["chunk"] for chunk in window.around(4)] == [3000, 3001, 3002, 3003]
        asked = len(peer.calls)
        window.refresh(peer)
        assert len(peer.calls) == asked  # too soon
        time.t += 1
        window.refresh(peer)
        assert len(peer.calls) == asked + 1
        assert peer.calls[-1][1]["limit"] < 200
        states[3000] = "done"
        time.t += 1
        window.refresh(peer)
        assert [chunk["chunk"] for chunk in window.around(4)] == [3001, 3002, 3003, 3004]
        states[3001:3150] = ["done"] * 149
        time.t += 1
        window.refresh(peer)
        assert "ready" in {chunk["state"] for chunk in window.around(4)}

    def test_few_chunks(self):
        window = ChunkWindow("demo", Time().monotonic)
        assert window.around(5) == ()
        window.refresh(self.peer(["done", "done"]))
        assert len(window.around(5)) == 2

    def test_a_huge_done_part_takes_a_bounded_number_of_requests(self):
        peer = self.peer(["done"] * 50_000)
        ChunkWindow("demo", Time().monotonic).refresh(peer)
        assert len(peer.calls) <= 11


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class TestLive:
    @pytest.fixture(autouse=True)
    def _terminal(self, monkeypatch):
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("LINES", "30")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def live(self, task_id, lang="en"):
        self.stream, self.time = Terminal(), Time()
        console = Console(self.stream, io.StringIO(), lang, os.environ)
        return Live(console, self.stream, task_id, now=self.time.now, monotonic=self.time.monotonic)

    def text(self, view):
        import rich.console

        screen = rich.console.Console(file=io.StringIO(), width=120, height=30)
        screen.print(view.render())
        return screen.file.getvalue()

    def test_one_task(self):
        waiting = [
            {"code": "network", "text": Text("no route").to_wire(), "since": NOW - 3, "next_try": None}
        ]
        task = summary(waiting=waiting, cost=COST, quota={"x-ratelimit-remaining-tokens": "77"})
        chunks = [{"chunk": 1, "state": "done"}, {"chunk": 2, "state": "leased", "counts": {"input": 42}}]
        peer = FakePeer({"status": lambda _: {"chunks": chunks, "next": None}})
        view = self.live("demo")
        view.look(peer)
        view.show({"demo": task}, [task], {"cpu": 5.0, "rss": 1024, "workers": []})
        shown = self.text(view)
        for part in (
            "demo  running  test-model @ http://127.0.0.1:1/v1",
            "41.0% · 123 of 300 · 35.2/s",
            "answered 120, errors 3",
            "64 in flight, at most 128 at once",
            "no route (for 0:00:03)",
            "0.5000 USD so far, about 1.2000 USD in all · 0.00412 USD a record",
            "not in it: 2 answers without usage",
            "x-ratelimit-remaining-tokens: 77",
            "daemon 5% CPU, 1.0 KiB",
            "in work",
        ):
            assert part in shown
        view.notice(Text("lost"))
        assert "lost" in self.text(view)
        view.show({"demo": task}, [], {})
        assert "lost" not in self.text(view)

    def test_all_tasks_unfinished_ones_first(self):
        tasks = {name: ended(name) for name in ("a[bold]", *(f"t{n}" for n in range(60)))}
        tasks["任务"] = summary("任务")
        view = self.live(None)
        view.show(tasks, [], {})
        rows = self.text(view).splitlines()
        assert rows[1].startswith("任务")
        assert rows[2].startswith("a[bold]")
        assert "and 38 more" in rows[-1]

    def test_nothing_yet(self):
        assert self.text(self.live("demo")).strip() == ""
        assert "there is no task" in self.text(self.live(None))

    def test_it_draws_and_leaves_the_terminal_as_it_was(self):
        with self.live("demo") as view:
            view.show({"demo": ended()}, [], {})
        drawn = self.stream.getvalue()
        assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1

    def test_the_last_frame_stays_when_it_is_interrupted(self):
        view = self.live("demo")
        view.__enter__()
        view.show({"demo": summary()}, [], {})
        view.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert "123 of 300" in self.stream.getvalue().splitlines()[1]


def test_control_characters_never_reach_a_terminal():
    hostile = "a\x1b]0;title\x07b\x1b[2Jc\x9b1md\x7fe\rf\tg\nh"
    clean = "a\ufffd]0;title\ufffdb\ufffd[2Jc\ufffd1md\ufffde\ufffdf\tg\nh"
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err, "en", {"NO_COLOR": "1"})
    console.data(hostile)
    console.say(hostile)
    console.tell(Text("{x}", {"x": hostile}))
    console.error(Text("{x}", {"x": hostile}))
    assert out.getvalue() == clean + "\n"
    assert err.getvalue() == f"{clean}\n{clean}\nerror: {clean}\n"


def test_labels_keep_their_colour_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    err = Terminal()
    Console(io.StringIO(), err, "en", {}).error(Text("{x}", {"x": "\x1b[2J"}))
    assert err.getvalue() == "\x1b[31m\x1b[1merror: \x1b[0m\ufffd[2J\n"

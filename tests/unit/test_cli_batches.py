"""Upstream batches: the line about all of them, -status with its pages, plain lines, processes."""

import json
import os
import subprocess
import sys

import pytest
from cli_fakes import (
    HOSTILE,
    NOW,
    Cli,
    FakePeer,
    batch_summary,
    collected,
    ended,
    squeezed,
    submission,
    summary,
    waits_for,
)
from stub_daemon import StubDaemon

from batch_infer.protocol.workspace import Workspace
from batch_infer.render import numbers
from batch_infer.render.batch_text import batches, paths
from batch_infer.render.task_fields import fields
from batch_infer.render.task_pages import SUBMISSIONS_PAGE
from batch_infer.render.task_text import end_summary, task_detail, task_list


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    return Workspace(tmp_path)


def peer(rows, task=None, page=1000):
    """A daemon whose task has these submissions, given by number; it answers the newest first."""
    newest = sorted(rows, key=lambda row: -row["submission"])

    def cut(cursor, limit):
        part = [row for row in newest if cursor is None or row["submission"] < cursor][:limit]
        more = bool(part) and part[-1]["submission"] > min(row["submission"] for row in newest)
        return {"rows": part, "next": part[-1]["submission"] if more else None}

    def status(_):
        return (task or batch_summary()) | {"chunks": [], "next": None, "submissions": cut(None, page)}

    return FakePeer({"status": status, "submissions": lambda p: cut(p["cursor"], min(page, p["limit"]))})


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (303, "5m 3s"),
        (3600, "1h"),
        (3601, "1h"),
        (7_800, "2h 10m"),
        (86_400, "1d"),
        (336 * 3600 - 1, "13d 23h"),
        (float("nan"), "?"),
        (float("inf"), "?"),
    ],
)
def test_span(seconds, shown):
    assert numbers.span(seconds) == shown


class TestLine:
    def test_all_of_it(self):
        assert batches(batch_summary(), "en") == (
            "12 live (in_progress 10, validating 2), 3 waiting, 40 collected; "
            "oldest 2h 10m, 21h 50m left; requests 1,200 of 5,000 done upstream"
        )

    @pytest.mark.parametrize(
        ("changes", "shown"),
        [
            (
                {"live": 0, "states": {}, "oldest_s": None, "left_s": None, "requests": {}},
                "3 waiting, 40 collected",
            ),
            (
                {"live": 0, "waiting": 0, "collected": 0, "states": {}, "oldest_s": None, "left_s": None}
                | {"requests": {"total": 0, "completed": 0, "failed": 0}},
                "none yet",
            ),
            (
                {"waiting": 0, "collected": 0, "oldest_s": -3.0, "left_s": None}
                | {"requests": {"total": 5, "completed": None, "failed": 2}},
                "12 live (in_progress 10, validating 2); oldest 0s; requests 0 of 5 done upstream, 2 failed",
            ),
            ({"requests": None, "states": None, "left_s": -1}, None),
        ],
    )
    def test_what_is_unknown_is_left_out(self, changes, shown):
        line = batches(batch_summary(batches=changes), "en")
        assert line == (shown or "12 live, 3 waiting, 40 collected; oldest 2h 10m, 0s left")

    def test_a_task_of_online_calls_has_none(self):
        assert batches(summary(), "en") == ""
        labels = [label for label, _ in fields(summary(), "en", NOW)]
        assert "batches" not in labels
        assert "requests" in labels

    def test_words_of_a_provider(self):
        states = {HOSTILE: 1, "进行中" * 20: 2, **{f"s{n}": 3 + n for n in range(9)}}
        line = batches(batch_summary(batches={"states": states}), "en")
        assert line.startswith("12 live (s8 11, s7 10, s6 9, s5 8, s4 7, s3 6, …), 3 waiting")
        line = batches(batch_summary(batches={"states": {HOSTILE: 1, "进行中" * 20: 2}}), "en")
        assert line.isprintable()
        assert "(进行中进行中进行中进行… 2, ba\ufffd" in line

    def test_chinese(self):
        line = batches(batch_summary(), "zh")
        assert all(part in line for part in ("12", "in_progress 10", "validating 2", "2h 10m", "1,200"))
        assert "{" not in line


def test_answers_by_path_only_where_both_were_taken():
    assert paths(summary(paths={"batch": 1200, "online": 34}), "en") == (
        "1,200 by batches, 34 by online calls"
    )
    for taken in ({"batch": 5, "online": 0}, {"batch": 0, "online": 5}, {}, None):
        assert paths(summary(paths=taken), "en") == ""


def test_the_detail_has_backend_batches_and_paths():
    task = batch_summary(paths={"batch": 1200, "online": 34})
    lines = dict(line.split(maxsplit=1) for line in task_detail(task, "en", NOW))
    assert lines["backend"] == "batch"
    assert lines["batches"] == batches(task, "en")
    assert lines["answers"] == "1,200 by batches, 34 by online calls"
    assert "requests" not in lines  # none is in flight, and none will be
    straggling = batch_summary(in_flight=3, concurrency=8)
    assert any("3 in flight" in line for line in task_detail(straggling, "en", NOW))


def test_the_end_says_what_was_collected():
    quiet = {"live": 0, "waiting": 0, "states": {}, "requests": {}, "oldest_s": None, "left_s": None}
    task = ended(batches=batch_summary()["batches"] | quiet, paths={"batch": 290, "online": 10})
    lines = [" ".join(line.split()) for line in end_summary(task, "en")]
    assert "batches 40 collected" in lines
    assert "answers 290 by batches, 10 by online calls" in lines


@pytest.mark.parametrize("code", ["capacity", "unsettled", "retention", "cancel", "never_heard_of"])
def test_what_batches_wait_for_stands_behind_the_state(code):
    assert f"running ({code})" in task_list([batch_summary(waiting=[waits_for(code)])], "en")[1]


def test_pooling_is_routine():
    assert "(" not in task_list([batch_summary(waiting=[waits_for("pool")])], "en")[1]


class TestStatus:
    def table(self, cli):
        return [squeezed(line).split("  ") for line in cli.stdout.split("\n\n")[-1].splitlines()]

    def test_below_the_chunks(self, ws):
        fake = peer([submission(1), submission(2, waiting=waits_for())])
        chunks = {"chunks": [{"chunk": 1, "state": "leased", "counts": {"input": 5}}], "next": None}
        status = fake.handlers["status"]
        fake.handlers["status"] = lambda p: status(p) | chunks
        cli = Cli(ws, [fake])
        assert cli("-status", "demo") == 0
        detail, chunk_part, _ = cli.stdout.split("\n\n")
        assert "batches" in detail
        assert chunk_part.startswith("CHUNK")
        assert [row[:2] for row in self.table(cli)[1:]] == [["1", "batch_0001"], ["2", "batch_0002"]]
        assert "more" not in cli.stderr

    def test_twenty_rows_and_how_many_more(self, ws):
        rows = [submission(1), *(collected(n) for n in range(2, 501))]
        fake = peer(rows, page=100)
        cli = Cli(ws, [fake])
        assert cli("-status", "demo") == 0
        shown = [int(row[0]) for row in self.table(cli)[1:]]
        assert shown == [1, *range(482, 501)]
        assert "480 more batches are shown by: batch_infer -status demo -json" in cli.stderr
        assert {call["limit"] for call in fake.asked("submissions")} == {SUBMISSIONS_PAGE}
        cli = Cli(ws, [peer([collected(n) for n in range(1, 22)])])
        cli("-status", "demo")
        assert "1 more batch is shown by" in cli.stderr

    def test_a_huge_task_is_looked_through_up_to_a_bound(self, ws):
        fake = peer([collected(n) for n in range(1, 12_001)], page=1000)
        cli = Cli(ws, [fake])
        assert cli("-status", "demo") == 0
        assert [int(row[0]) for row in self.table(cli)[1:]] == list(range(11_981, 12_001))
        assert "at least 4,981 more batches are shown by" in cli.stderr
        assert len(fake.asked("submissions")) <= 21

    def test_json_has_every_one_newest_first(self, ws):
        rows = [*(collected(n) for n in range(1, 2501)), submission(2501, waiting=waits_for())]
        cli = Cli(ws, [peer(rows, page=200)])
        assert cli("-status", "demo", "-json") == 0
        shown = json.loads(cli.stdout)
        assert [row["submission"] for row in shown["submissions"]] == list(range(2501, 0, -1))
        assert shown["submissions"][0]["waiting"] == {
            "code": "capacity",
            "text": "the account's queue is full",
            "since": NOW - 5,
            "next_try": NOW + 60,
        }
        assert shown["submissions"][1]["waiting"] is None
        assert shown["batches"]["states"] == {"validating": 2, "in_progress": 10}
        assert list(shown)[-2:] == ["chunks", "submissions"]

    @pytest.mark.parametrize("page", [{}, {"submissions": None}, {"submissions": {"rows": [], "next": None}}])
    def test_a_task_of_online_calls_has_none(self, ws, page):
        answer = {"status": lambda _: summary() | {"chunks": [], "next": None} | page}
        cli = Cli(ws, [FakePeer(answer)])
        assert cli("-status", "demo", "-json") == 0
        assert json.loads(cli.stdout)["submissions"] == []
        cli = Cli(ws, [FakePeer(answer)])
        assert cli("-status", "demo") == 0
        assert "BATCH" not in cli.stdout

    def test_chinese_falls_back_to_english(self, ws):
        cli = Cli(ws, [peer([submission(1, upstream_state="进行中", waiting=waits_for())])], lang="zh")
        assert cli("-status", "demo") == 0
        assert "batch_0001" in cli.stdout
        assert "进行中" in cli.stdout
        assert "{" not in cli.stdout

    def test_one_look_shows_the_open_ones(self, ws):
        fake = peer([collected(1), *(submission(n) for n in range(2, 24)), collected(24)])
        fake.handlers["daemon.status"] = lambda _: {"cpu": 1.0, "rss": 1, "workers": []}
        cli = Cli(ws, [fake])
        assert cli("-monitor", "demo", "-once", "-json") == 0
        assert "submissions" not in json.loads(cli.stdout)
        cli = Cli(ws, [fake])
        assert cli("-monitor", "demo", "-once") == 0
        assert "12 live (in_progress 10, validating 2), 3 waiting, 40 collected" in cli.stdout
        assert [int(row[0]) for row in self.table(cli)[1:]] == list(range(2, 22))
        assert "2 more batches are shown by" in cli.stderr
        fake = peer([collected(1)])
        fake.handlers["daemon.status"] = lambda _: {"cpu": 1.0, "rss": 1, "workers": []}
        cli = Cli(ws, [fake])
        assert cli("-monitor", "demo", "-once") == 0
        assert "BATCH" not in cli.stdout


class TestLines:
    def test_the_same_facts_in_a_line(self, ws):
        first = batch_summary(paths={"batch": 100, "online": 20}, waiting=[waits_for()])
        cli = Cli(ws, [FakePeer(), FakePeer(pushes=[first, ended()])])
        assert cli("-monitor", "demo") == 0
        line = cli.stdout.splitlines()[0]
        assert f" · batches: {batches(first, 'en')} · " in line
        assert " · answers: 100 by batches, 20 by online calls · " in line
        assert line.endswith("waiting: the account's queue is full (for 0:00:05); next try in 0:01:00")

    @pytest.mark.parametrize("form", [[], ["-json"]])
    def test_counts_upstream_are_news_and_ages_are_not(self, ws, form):
        cli = Cli(ws, [FakePeer(), FakePeer()])

        def pushes():
            yield batch_summary()
            for age in range(40):  # nothing but ages
                cli.time.t += 1
                yield batch_summary(batches={"oldest_s": 7_800.0 + age, "left_s": 78_600.0 - age})
            yield batch_summary(batches={"requests": {"total": 5000, "completed": 1201, "failed": 0}})
            cli.time.t += 3
            yield batch_summary(batches={"states": {"in_progress": 12}})
            yield ended()

        cli.peers[1].pushes = pushes()
        assert cli("-monitor", "demo", *form) == 0
        lines = [line for line in cli.stdout.splitlines() if "  demo  " in line or line.startswith("{")]
        assert len(lines) == 4

    def test_a_silent_wait_tells_what_batches_wait_for(self, ws):
        pushes = [
            batch_summary(),
            batch_summary(waiting=[waits_for("pool", "leftovers")]),
            batch_summary(waiting=[waits_for("retention", "results go in a day")]),
            ended(),
        ]
        cli = Cli(ws, [FakePeer({"retry": lambda _: {"state": "running", "round": 1, "records": 1}})])
        cli.peers.append(FakePeer(pushes=pushes))
        assert cli("-retry", "demo", "-wait") == 0
        assert "results go in a day" in cli.stderr
        assert "leftovers" not in cli.stderr


class TestProcess:
    """Over a real socket: pages, imports, consoles of any encoding."""

    @pytest.fixture
    def daemon(self, ws, short_tmp):
        fake = peer(
            [*(collected(n) for n in range(1, 301)), submission(301, batch="批次", waiting=waits_for())],
            page=100,
        )
        with StubDaemon(ws.root, short_tmp, dict(fake.handlers)) as stub:
            yield stub

    def test_status_imports_nothing_heavy(self, ws, daemon):
        heavy = {"httpx", "yaml", "sqlite3", "rich", "asyncio", "batch_inferd"}
        code = (
            "import sys\n"
            "from batch_infer.cli.app import main\n"
            "assert main(['-status', 'demo']) == 0\n"
            f"assert not {heavy!r} & set(sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ws.root, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "批次" in done.stdout.decode()

    @pytest.mark.parametrize("encoding", ["gbk", "ascii", "utf-8"])
    def test_any_encoding(self, ws, daemon, encoding):
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "BATCH_INFER_LANG": "zh"}

        def run(*words):
            return subprocess.run(
                [sys.executable, "-m", "batch_infer", *words],
                env=env,
                cwd=ws.root,
                capture_output=True,
                timeout=60,
                check=False,
            )

        done = run("-status", "demo")
        assert done.returncode == 0, done.stderr
        assert "批次".encode(encoding, "replace") in done.stdout
        rows = json.loads(run("-status", "demo", "-json").stdout.decode(encoding))["submissions"]
        assert (len(rows), rows[0]["batch"]) == (301, "批次")

"""The live view of a task with batches: what it shows in how much room."""

import io
import os

import pytest
import rich.console
from cli_fakes import HOSTILE, FakePeer, Time, batch_summary, collected, ended, submission, waits_for

from batch_infer.render.columns import width
from batch_infer.render.console import Console
from batch_infer.render.live import Live


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class TestLive:
    def view(self, monkeypatch, rows, *, task=None, columns=120, lines=40, lang="en"):
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))
        monkeypatch.delenv("NO_COLOR", raising=False)
        self.size, self.time, stream = (columns, lines), Time(), Terminal()
        chunks = [{"chunk": n, "state": "leased", "counts": {"input": 42}} for n in range(1, 21)]
        fake = FakePeer(
            {
                "status": lambda _: {
                    "chunks": chunks,
                    "next": None,
                    "submissions": {"rows": rows[::-1], "next": None},
                }
            }
        )
        view = Live(
            Console(stream, io.StringIO(), lang, os.environ),
            stream,
            "demo",
            now=self.time.now,
            monotonic=self.time.monotonic,
        )
        task = task or batch_summary()
        view.look(fake)
        view.show({"demo": task}, [task], {"cpu": 5.0, "rss": 1024, "workers": []})
        return view

    def shown(self, view):
        columns, lines = self.size
        screen = rich.console.Console(file=io.StringIO(), width=columns, height=lines)
        screen.print(view.render())
        return screen.file.getvalue()

    def test_line_and_table(self, monkeypatch):
        rows = [collected(1), *(submission(n) for n in range(2, 6))]
        view = self.view(monkeypatch, [*rows, submission(6, waiting=waits_for())])
        text = self.shown(view)
        assert "test-model @ http://127.0.0.1:1/v1 · batch" in text
        assert "12 live (in_progress 10, validating 2), 3 waiting, 40 collected;" in text
        assert "live (in_progress)" in text
        assert "the account's queue is full" in text
        assert "batch_0002" in text
        assert "batch_0001" not in text  # collected
        assert "in work" in text
        assert len(text.splitlines()) <= 40

    def test_ages_go_on_between_two_looks(self, monkeypatch):
        view = self.view(monkeypatch, [submission(1)])
        assert "21h 50m  \n" not in self.shown(view)
        self.time.t += 3600
        row = next(line for line in self.shown(view).splitlines() if "batch_0001" in line)
        assert row.split()[-4:] == ["3h", "10m", "20h", "50m"]

    @pytest.mark.parametrize("lines", [10, 14, 18, 24, 30, 60])
    @pytest.mark.parametrize("columns", [40, 80, 120])
    @pytest.mark.parametrize("many", [1, 3, 100])
    def test_it_shows_as_many_as_there_is_room_for(self, monkeypatch, columns, lines, many):
        rows = [submission(n, batch=f"batch_{n:032}") for n in range(1, many + 1)]
        view = self.view(monkeypatch, rows, columns=columns, lines=lines)
        text = self.shown(view)
        table = [line for line in text.splitlines() if "live (in" in line and "batch_" in line]
        assert "in work" in text  # chunks are always there
        assert all(width(line) <= columns for line in text.splitlines())
        if columns >= 80:
            assert len(text.splitlines()) <= max(lines, 16)
        if (columns, lines) == (120, 60):
            assert len(table) == min(many, 43)
            assert ("and 57 more" in text) == (many == 100)
        if lines == 10:
            assert table == []

    def test_hostile_values(self, monkeypatch):
        rows = [submission(1, batch=HOSTILE, upstream_state=HOSTILE, waiting=waits_for(text="\x1b[2J"))]
        task = batch_summary(batches={"states": {HOSTILE: 1}}, backend="ba\x1b[2Jtch")
        view = self.view(monkeypatch, rows, task=task)
        text = self.shown(view)
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert "\u202e" not in text

    def test_chinese(self, monkeypatch):
        rows = [submission(1, batch="批次" * 30, upstream_state="进行中", waiting=waits_for())]
        text = self.shown(self.view(monkeypatch, rows, columns=80, lang="zh"))
        assert "进行中" in text
        assert "{" not in text

    def test_an_ended_task_has_no_table(self, monkeypatch):
        view = self.view(monkeypatch, [submission(1)], task=ended(batches=batch_summary()["batches"]))
        assert "batch_0001" not in self.shown(view)

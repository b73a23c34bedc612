"""Logs: one line a record, secrets masked, bounded files, and never an error for whoever logs."""

import contextlib
import json
import logging
import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd import logs
from batch_inferd.logs import redact
from batch_inferd.logs.line import MESSAGE_CAP, format_json, format_line
from batch_inferd.logs.tasklogs import TaskLogs
from batch_inferd.logs.writer import LogWriter

CREATED = time.mktime((2026, 3, 4, 5, 6, 7, 0, 0, -1))
LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) (?P<level>[A-Z]+) +"
    r"(?P<process>\w+\[\d+\]) "
    r"task=(?P<task>\S+) chunk=(?P<chunk>\S+) (?P<message>.*)"
)


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch):
    monkeypatch.setattr(redact, "_secrets", set())
    monkeypatch.setattr(redact, "_pattern", None)


@pytest.fixture
def writer():
    made = LogWriter()
    yield made
    made.close()


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "logs"
    path.mkdir()
    return path


@pytest.fixture
def started(directory):
    """The daemon's logging, ended with the test; several may be started."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            made = logs.start(directory, **options)
            stack.callback(made.close)
            return made

        yield start


def daemon_log(directory):
    (path,) = directory.glob("daemon_*.log")
    return path.read_text(encoding="utf-8")


class TestALine:
    def test_it_has_all_its_parts(self):
        line = format_line(1_700_000_000.5, logging.WARNING, "hello", process="worker[12]", task="a", chunk=3)
        parts = LINE.fullmatch(line)
        assert parts
        assert parts["level"] == "WARNING"
        assert parts["process"] == "worker[12]"
        assert (parts["task"], parts["chunk"], parts["message"]) == ("a", "3", "hello")

    def test_what_there_is_not_is_a_dash(self):
        parts = LINE.fullmatch(format_line(0.0, logging.INFO, "", process="daemon[1]"))
        assert parts
        assert (parts["task"], parts["chunk"], parts["message"]) == ("-", "-", "")

    @given(st.text(max_size=200))
    def test_whatever_the_message_it_is_one_line(self, message):
        line = format_line(0.0, logging.INFO, message, process="d[1]")
        assert len(line.splitlines()) == 1
        if message.isprintable():
            assert line.endswith(message)

    def test_a_long_message_is_cut_and_says_so(self):
        line = format_line(0.0, logging.INFO, "x" * 100_000, process="d[1]")
        assert len(line) < MESSAGE_CAP + 200
        assert line.endswith("x… (100000 characters)")

    def test_the_cut_leaves_no_part_of_a_secret(self):
        logs.register_secret("sk-verysecret")
        message = "x" * (MESSAGE_CAP - 5) + "sk-verysecret"
        assert "sk-ve" not in format_line(0.0, logging.INFO, message, process="d[1]")


class TestMasking:
    @pytest.mark.parametrize(
        "secret", ["sk-abc123", "pass word", "p/w+d&?", 'qu"ote\\', "密码一二三", "line\nbreak"]
    )
    def test_a_secret_is_masked_in_every_shape(self, secret):
        import urllib.parse

        logs.register_secret(secret)
        for shape in (secret, repr(secret), json.dumps({"k": secret}), urllib.parse.quote(secret, safe="")):
            masked = redact.redact(f"before {shape} after")
            assert "***" in masked
            assert secret not in masked
            assert masked.startswith("before ")
            assert masked.endswith(" after")

    def test_the_longer_of_two_is_masked_whole(self):
        logs.register_secret("secret")
        logs.register_secret("secret-and-more")
        assert redact.redact("a secret-and-more b") == "a *** b"

    def test_too_short_ones_are_left(self):
        logs.register_secret("")
        logs.register_secret("abc")
        assert redact.redact("abcabc") == "abcabc"

    def test_they_are_masked_in_task_logs_daemon_logs_and_traces(self, started, directory, capsys):
        log = started(foreground=True)
        log.tasks.open("t", CREATED)
        logs.register_secret("sk-abc123")
        log.tasks.log("t", logging.INFO, None, "key sk-abc123")
        try:
            json.loads("sk-abc123 " * 3)
        except ValueError:
            log.tasks.exception("t", "it failed")
            logging.getLogger("some.library").exception("failed with %s", "sk-abc123")
        assert log.flush()
        written = "".join(path.read_text() for path in directory.iterdir()) + capsys.readouterr().err
        assert "sk-abc123" not in written
        assert written.count("***") >= 6


class TestTheDaemonsLog:
    def test_every_logger_speaks_in_it(self, started, directory):
        log = started()
        logging.getLogger("batch_inferd.x").info("hello %s", "world")
        logging.getLogger("batch_inferd.x").debug("too much")
        logging.getLogger("batch_inferd.x").warning("of a task", extra={"task": "t", "chunk": 4})
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("mind this", stacklevel=1)
        assert log.flush()
        lines = [LINE.fullmatch(line) for line in daemon_log(directory).splitlines()]
        assert all(lines)
        assert lines[0]["message"] == "batch_inferd.x: hello world"
        assert lines[0]["process"] == f"daemon[{os.getpid()}]"
        assert (lines[1]["task"], lines[1]["chunk"]) == ("t", "4")
        assert "mind this" in lines[2]["message"]
        assert len(lines) == 3

    def test_it_is_dated_and_private(self, started, directory):
        log = started()
        logging.getLogger("x").error("y")
        assert log.flush()
        (path,) = directory.iterdir()
        assert path.name == time.strftime("daemon_%Y%m%d.log")
        assert path.stat().st_mode & 0o777 == 0o600

    def test_a_new_day_is_a_new_file(self, started, directory):
        log = started()
        for day in (1, 2):
            record = logging.LogRecord("x", logging.INFO, "f", 1, f"day {day}", None, None)
            record.created = time.mktime((2026, 5, day, 12, 0, 0, 0, 0, -1))
            logging.getLogger().handle(record)
        assert log.flush()
        assert sorted(path.name for path in directory.iterdir()) == [
            "daemon_20260501.log",
            "daemon_20260502.log",
        ]
        assert "day 2" in (directory / "daemon_20260502.log").read_text()

    def test_old_files_go(self, started, directory):
        for name in (
            "daemon_20200101.log",
            "daemon_20200101.log.1",
            "t_20200101_000000.log",
            "daemon.out.log",
        ):
            (directory / name).touch()
            os.utime(directory / name, (0, 0))
        (directory / "daemon_20200102.log").touch()
        started()
        left = {path.name for path in directory.iterdir()}
        assert left == {"t_20200101_000000.log", "daemon.out.log", "daemon_20200102.log"}

    def test_a_wrong_log_call_does_not_disturb(self, started, directory, monkeypatch, capsys):
        log = started()
        record = logging.LogRecord("x", logging.INFO, "f", 1, "%d", ("no number",), None)
        log._handler.handle(record)  # pytest's own handlers would make it a failure of the test
        logging.getLogger("x").info("next")
        assert log.flush()
        assert "next" in daemon_log(directory)
        assert "no number" in capsys.readouterr().err

    def test_without_a_directory_nothing_is_disturbed(self, tmp_path):
        log = logs.start(tmp_path / "workspace" / "logs")
        logging.getLogger("x").error("y")
        assert log.flush()
        log.close()
        assert not (tmp_path / "workspace").exists(), "a workspace that is gone does not come back"

    def test_afterwards_logging_is_as_before(self, directory):
        handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
        logs.start(directory).close()
        assert logging.getLogger().handlers == handlers
        assert logging.getLogger().level == level


class TestJson:
    @given(st.text(max_size=60), st.none() | st.integers(0, 9))
    def test_a_record_is_one_line_and_one_object(self, message, chunk):
        line = format_json(0.5, logging.WARNING, message, process="worker[9]", task="甲", chunk=chunk)
        assert line.splitlines() == [line]
        record = json.loads(line)
        assert record.pop("time").startswith(time.strftime("%Y-%m-%dT%H:%M:%S.500", time.localtime(0)))
        assert record == {
            "level": "warning",
            "process": "worker[9]",
            "thread": None,
            "task": "甲",
            "chunk": chunk,
            "message": message,
        }

    def test_a_long_message_is_cut(self):
        message = json.loads(format_json(0.0, logging.INFO, "x" * 100_000, process="d[1]"))["message"]
        assert message == "x" * MESSAGE_CAP + "… (100000 characters)"

    def test_secrets_with_quotes_are_masked(self, directory, writer):
        redact.register_secret('pass"word\\é')
        tasks = TaskLogs(directory, writer)
        tasks.open("t", CREATED, as_json=True)
        tasks.log("t", logging.INFO, 2, 'it is pass"word\\é, no more')
        assert writer.flush(5)
        with open(tasks.path("t"), encoding="utf-8") as file:
            assert json.loads(file.read())["message"] == "it is ***, no more"

    def test_what_was_lost_is_an_object_too(self, directory):
        small = LogWriter(cap=300)
        tasks = TaskLogs(directory, small)
        tasks.open("t", CREATED, as_json=True)
        tasks.log("t", logging.INFO, None, "x" * 400)
        tasks.log("t", logging.INFO, None, "short")
        assert small.flush(5)
        small.close()
        with open(tasks.path("t"), encoding="utf-8") as file:
            lost, short = [json.loads(line) for line in file]
        assert (lost["level"], lost["task"], short["message"]) == ("warning", "t", "short")
        assert "1 lines were lost here" in lost["message"]


class TestTaskLogs:
    @pytest.fixture
    def tasks(self, directory, writer):
        return TaskLogs(directory, writer)

    def test_a_file_a_task_named_by_its_creation(self, tasks, writer, directory):
        tasks.open("甲.b-1", CREATED)
        tasks.log("甲.b-1", logging.INFO, 7, "two\nlines", process="worker[9]", t=CREATED + 60)
        tasks.log("甲.b-1", logging.DEBUG, None, "too much")
        assert writer.flush(5)
        path = directory / "甲.b-1_20260304_050607.log"
        assert tasks.path("甲.b-1") == str(path)
        assert path.stat().st_mode & 0o777 == 0o600
        parts = LINE.fullmatch(path.read_text(encoding="utf-8").rstrip("\n"))
        assert parts
        assert (parts["task"], parts["chunk"], parts["process"]) == ("甲.b-1", "7", "worker[9]")
        assert parts["message"] == r"two\nlines"
        assert parts["time"].startswith("2026-03-04T05:07:07.000")

    def test_the_level_can_be_changed(self, tasks, writer):
        tasks.open("t", CREATED)
        tasks.open("t", CREATED, level=logging.ERROR)
        tasks.log("t", logging.WARNING, None, "no")
        tasks.open("t", CREATED, level=logging.DEBUG)
        tasks.log("t", logging.DEBUG, None, "yes")
        assert writer.flush(5)
        with open(tasks.path("t")) as file:
            assert [line.split()[-1] for line in file] == ["yes"]

    def test_another_task_of_that_name_gets_a_file_of_its_own(self, tasks, writer, directory):
        for n in range(2):
            tasks.open("t", CREATED + n)
            tasks.log("t", logging.INFO, None, f"task {n}")
        assert writer.flush(5)
        assert len(list(directory.iterdir())) == 2
        with open(tasks.path("t")) as file:
            assert "task 1" in file.read()

    def test_a_task_that_is_not_open_speaks_in_the_daemons_log(self, tasks, caplog):
        tasks.log("gone", logging.WARNING, 3, "late words")
        tasks.close("gone")
        assert tasks.path("gone") == ""
        (record,) = caplog.records
        assert (record.getMessage(), record.task, record.chunk) == ("late words", "gone", 3)

    def test_a_trace_is_one_line(self, tasks, writer):
        tasks.open("t", CREATED)
        try:
            int("why")
        except ValueError:
            tasks.exception("t", "a bug")
        assert writer.flush(5)
        with open(tasks.path("t")) as file:
            (line,) = file.readlines()
        assert "ERROR" in line
        assert r"a bug\nTraceback" in line
        assert r"ValueError: invalid literal" in line

    def test_files_of_earlier_tasks_of_that_name_go(self, tasks, directory):
        for name in ("t_20200101_000000.log", "t_20200101_000000.log.1", "t_2_20200101_000000.log"):
            (directory / name).touch()
            os.utime(directory / name, (0, 0))
        tasks.open("t", CREATED, keep_days=3)
        assert [path.name for path in directory.iterdir()] == ["t_2_20200101_000000.log"]

    def test_another_folder(self, tasks, writer, directory, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        (other / "t_20200101_000000.log").touch()
        os.utime(other / "t_20200101_000000.log", (0, 0))
        tasks.open("t", CREATED)
        tasks.log("t", logging.INFO, None, "one")
        first = tasks.path("t")
        tasks.open("t", CREATED, directory=other, keep_days=3)
        tasks.log("t", logging.INFO, None, "two")
        assert writer.flush(5)
        (moved,) = other.iterdir()
        assert tasks.path("t") == str(moved)
        assert moved.name == os.path.basename(first)
        assert moved.read_text().endswith("two\n")
        with open(first) as file:
            assert [line.split(" chunk=- ")[1] for line in file] == ["one\n", f"the log goes on in {moved}\n"]
        assert first not in open_files()

    def test_a_closed_file_is_let_go(self, tasks, writer):
        tasks.open("t", CREATED)
        tasks.log("t", logging.INFO, None, "x")
        assert writer.flush(5)
        path = tasks.path("t")
        assert path in open_files()
        tasks.close("t")
        assert writer.flush(5)
        assert path not in open_files()


def open_files():
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return found

"""Which thread wrote a line of a log: in its text form where it is not the main one, always in JSON."""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import TYPE_CHECKING

import pytest

from batch_inferd import logs
from batch_inferd.logs.line import format_json, format_line, thread_name
from batch_inferd.logs.tasklogs import TaskLogs
from batch_inferd.logs.writer import LogWriter
from batch_inferd.seams.clock import make_clock
from batch_inferd.worker.report import LogBuffer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def elsewhere(work: Callable[[], object], name: str = "seat-1") -> None:
    """Do it in a thread of that name, to its end."""
    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


@pytest.mark.parametrize("as_json", [False, True])
def test_the_log_of_a_task(tmp_path: Path, as_json: bool) -> None:
    writer = LogWriter()
    tasks = TaskLogs(tmp_path, writer)
    tasks.open("t", 0.0, as_json=as_json)
    tasks.log("t", logging.INFO, None, "main")
    elsewhere(lambda: tasks.log("t", logging.INFO, None, "ours"), "store")
    tasks.log("t", logging.INFO, 3, "of a worker", process="worker[9]", thread="seat-2")
    elsewhere(lambda: tasks.log("t", logging.INFO, 3, "its main", process="worker[9]"), "not the worker's")
    writer.close()
    with open(tasks.path("t"), encoding="utf-8") as file:
        lines = file.read().splitlines()
    if as_json:
        assert [json.loads(line)["thread"] for line in lines] == [None, "store", "seat-2", None]
    else:
        ends = [re.sub(r"\d+\]", "N]", line.split()[2]) for line in lines]
        assert ends == ["daemon[N]", "daemon[N]/store", "worker[N]/seat-2", "worker[N]"]


def test_the_log_of_the_daemon(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    started = logs.start(folder)
    try:
        logging.getLogger("x").info("main")
        elsewhere(lambda: logging.getLogger("x").info("other"))
        assert started.flush()
    finally:
        started.close()
    (path,) = folder.glob("daemon_*.log")
    main, other = path.read_text("utf-8").splitlines()
    assert re.search(r" daemon\[\d+\] task=", main)
    assert re.search(r" daemon\[\d+\]/seat-1 task=", other)


def test_what_a_worker_tells_says_its_thread() -> None:
    log = LogBuffer(make_clock())
    log.add(logging.INFO, "t", 1, "main")
    elsewhere(lambda: log.add(logging.INFO, "t", 1, "other"))
    assert [record["thread"] for record in log.take()] == [None, "seat-1"]


def test_a_name_of_any_form_stays_one_word() -> None:
    line = format_line(0.0, logging.INFO, "m", process="daemon[1]", thread="Thread-1 (run)\n")
    assert line.split()[2:] == ["daemon[1]/Thread-1_(run)", "task=-", "chunk=-", "m"]
    record = json.loads(format_json(0.0, logging.INFO, "m", process="daemon[1]", thread="Thread-1 (run)"))
    assert record["thread"] == "Thread-1 (run)"


def test_the_main_thread_has_no_name() -> None:
    names: list[str | None] = [thread_name()]
    elsewhere(lambda: names.append(thread_name()))
    assert names == [None, "seat-1"]

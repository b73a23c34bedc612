"""Schemas with patterns: judged in another process, which may be slow, die, or be left behind."""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from batch_infer.protocol.errors import InputError
from batch_inferd.checks.judge import Judge, judge_of
from batch_inferd.config.answer_schema import read_schema

pytest.importorskip("jsonschema")
SLOW = {"type": "string", "pattern": "^(a+)+$"}
EVIL = json.dumps("a" * 60 + "b")


@pytest.fixture
def judge():
    made = judge_of(SLOW, "s", 1.0)
    assert isinstance(made, Judge)
    yield made
    del made
    gc.collect()


def test_only_patterns_need_it():
    accepts = judge_of({"type": "integer"}, "s")
    assert not isinstance(accepts, Judge)
    assert accepts("1") is None


def test_it_says_what_the_schema_says(judge):
    assert judge('"aaa"') is None
    assert judge('```json\n"aaa"\n```') is None
    assert judge('"b"') == "$: 'b' does not match '^(a+)+$'"
    assert judge("\ud800 no") == "no JSON"
    assert judge("7") == "$: 7 is not of type 'string'"
    assert judge("[" * 100_000) == "no JSON"


def test_a_pattern_that_takes_years_stops_nothing_else(judge):
    judge("1")
    turns = []
    done = threading.Event()

    def turn():
        while not done.wait(0.01):
            turns.append(time.monotonic())

    other = threading.Thread(target=turn)
    other.start()
    begun = time.monotonic()
    assert judge(EVIL) == "a pattern of the schema takes too long on it"
    took = time.monotonic() - begun
    done.set()
    other.join()
    assert 0.9 < took < 30
    assert len(turns) > 20, "other threads ran"
    assert judge('"aaa"') is None, "another process judges the rest"


def test_one_that_is_killed_is_told(judge):
    judge("1")
    (child,) = psutil.Process().children()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(InputError, match="cannot be applied: its process ended with -9"):
        judge("1")
    assert judge("1") is not None


def test_a_reference_that_leads_nowhere_is_told():
    judge = judge_of({"properties": {"a": {"$ref": "#/no"}, "b": {"pattern": "x"}}}, "the schema")
    assert judge("{}") is None
    with pytest.raises(InputError, match="the schema the schema cannot be applied"):
        judge('{"a": 1}')


def test_it_ends_with_its_object():
    judge = judge_of(SLOW, "s")
    judge("1")
    (child,) = psutil.Process().children()
    del judge
    gc.collect()
    assert not psutil.pid_exists(child.pid)


def test_it_ends_without_its_parent():
    code = (
        "from batch_inferd.checks.judge import judge_of\n"
        f"judge = judge_of({SLOW!r}, 's', 1.0)\n"
        "judge('1')\n"
        "print(judge._process.pid, flush=True)\n"
        f"judge({EVIL!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
    child.wait(20)


def test_nothing_is_fetched(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for schema in ({"$ref": url}, {"$schema": url, "type": "object"}, {"$id": url, "$ref": "other.json"}):
            path = tmp_path / "schema.json"
            path.write_text(json.dumps(schema))
            with contextlib.suppress(InputError):
                judge_of(read_schema(str(path)), str(path))("{}")
        with pytest.raises(BlockingIOError):
            server.accept()

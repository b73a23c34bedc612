"""The formats: what stands in them, for every kind of input."""

import csv
import io
import json

import pytest
from exports_kit import answer, chat, error, export, exported, line, missing, row
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, Task

from batch_inferd.exports.columns import cell


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


@pytest.fixture
def mixed(task):
    """Four rows of a table: answered, failed, never answered, answered."""
    task.chunk(row(0, name="张三", note="a,b") + row(1, name='q"q', note="two\nlines"))
    task.journal(1, "aa", answer(1, body=chat("好，是", "length")) + error(2))
    task.chunk(row(2, name="=1+1", note="") + row(3, name="last", note="-"))
    task.journal(2, "bb", answer(4, body=chat("yes\r\n"), tokens_in=None) + missing(3))
    return task


def rows(data, delimiter=",", encoding="utf-8-sig"):
    return list(csv.reader(io.StringIO(data.decode(encoding), newline=""), delimiter=delimiter))


def objects(data):
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def test_csv_joins_answers_to_rows(mixed):
    data = export(mixed, "csv")
    assert data.startswith(b"\xef\xbb\xbfname,note,answer")
    assert rows(data) == [
        ["name", "note", "answer", "finish_reason", "error", "input_tokens", "output_tokens"],
        ["张三", "a,b", "好，是", "length", "", "3", "4"],
        ['q"q', "two\nlines", "", "", "bad_request: no", "", ""],
        ["=1+1", "", "", "", "missing: no answer of any kind came", "", ""],
        ["last", "-", "yes\r\n", "stop", "", "", "4"],
    ]


def test_encodings_and_tsv(mixed):
    assert not export(mixed, "csv", encoding="utf-8").startswith(b"\xef\xbb\xbf")
    assert rows(export(mixed, "csv", encoding="gb18030"), encoding="gb18030")[1][0] == "张三"
    data = export(mixed, "tsv")
    assert data.startswith(b"name\tnote\tanswer")
    assert rows(data, "\t", "utf-8") == rows(export(mixed, "csv"))


def test_half_an_emoji_is_a_question_mark(task):
    task.chunk(row(0, name="n"))
    task.journal(1, "aa", answer(1, body=b'{"choices":[{"message":{"content":"cut \\ud83d"}}]}'))
    assert rows(export(task, "csv"))[1][1] == "cut ?"
    assert objects(export(task, "qa"))[0]["answer"] == "cut ?"
    assert json.loads(export(task, "json"))["results"][0]["answer"] == "cut ?"


def test_a_column_of_ours_gives_way_to_the_inputs(task):
    task.chunk(row(0, answer="gold", output_answer="silver", error="e"))
    task.journal(1, "aa", answer(1, body=chat("mine")))
    header, first = rows(export(task, "csv"))
    assert dict(zip(header, first, strict=True)) == {
        "answer": "gold",
        "output_answer": "silver",
        "error": "e",
        "output_output_answer": "mine",
        "finish_reason": "stop",
        "output_error": "",
        "input_tokens": "3",
        "output_tokens": "4",
    }


def test_rows_of_different_columns_and_values_that_are_no_text(task):
    task.chunk(row(0, a="1") + row(1, b=True, c=[1, "二"]) + row(2, a=None, b=2.5))
    task.journal(1, "aa", b"".join(answer(n, body=chat("x")) for n in (1, 2, 3)))
    header, *found = rows(export(task, "csv"))
    assert header[:3] == ["a", "b", "c"]
    assert [cells[:3] for cells in found] == [["1", "", ""], ["", "true", '[1,"二"]'], ["", "2.5", ""]]


def test_plain_lines_have_their_id_and_the_last_words_of_the_user(task):
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://a/b.png"}}]
    talk = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": parts},
    ]
    lines = [
        line("a", "plain"),
        json.dumps({"messages": talk}).encode() + b"\n",
        json.dumps({"custom_id": "e", "url": "/v1/embeddings", "body": {"input": "embed me"}}).encode()
        + b"\n",
        json.dumps({"custom_id": 7, "body": {"messages": [{"role": "user", "content": "in"}]}}).encode()
        + b"\n",
        b"not JSON\n",
    ]
    task.chunk(b"".join(lines))
    task.journal(
        1,
        "aa",
        answer(1, body=chat("x"))
        + answer(2, body=chat("y"))
        + answer(3, body=b'{"data":[{"embedding":[0.5,1]}]}')
        + answer(4, body=chat("z"))
        + error(5),
    )
    header, *found = rows(export(task, "csv"))
    assert header[:3] == ["custom_id", "prompt", "answer"]
    assert [cells[:3] for cells in found] == [
        ["a", "plain", "x"],
        ["2", "look", "y"],
        ["e", "embed me", "[0.5,1]"],
        ["7", "in", "z"],
        ["5", "", ""],
    ]
    assert [found["images"] for found in objects(export(task, "qa"))] == [[], ["https://a/b.png"], [], []]


def test_question_and_answer_as_the_first_document_has_them(task):
    source = {"id": 17, "input_prompt": "What is it?", "images": ["a/b.jpg", "c.png"]}
    ref = {"type": "image_url", "image_url": {"url": "file:///data/a/b.jpg"}}
    task.chunk(
        line("17", "What is it?", source) + line("18", "And?", source | {"id": "x18"}) + line("n", "plain")
    )
    embedded = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}
    talk = [{"role": "user", "content": [ref, embedded, {"type": "text", "text": "both"}]}]
    task.chunk(json.dumps({"messages": talk}).encode() + b"\n")
    task.journal(1, "aa", answer(1, t=T + 1.25, body=chat("a cat")) + error(2) + answer(3, body=chat("so")))
    task.journal(2, "bb", answer(4, body=chat("done")))
    first, plain, last = objects(export(task, "qa"))
    assert first == {
        "id": 17,
        "input_prompt": "What is it?",
        "images": ["a/b.jpg", "c.png"],
        "answer": "a cat",
        "processed_at": T + 1.25,
    }
    assert (plain["id"], plain["input_prompt"], plain["images"]) == ("n", "plain", [])
    assert last["images"] == ["file:///data/a/b.jpg", "data:image/png;base64,AAAAAAAAAA…"]


def test_jsonl_has_a_line_for_every_record(mixed):
    found = objects(export(mixed, "jsonl"))
    assert [one["custom_id"] for one in found] == ["1", "2", "2", "4"], "those of the fake journal, but for 3"
    assert [one["error"] and one["error"]["code"] for one in found] == [None, "bad_request", "missing", None]
    assert found[2] == {
        "id": "batch_k",
        "custom_id": "2",
        "response": None,
        "error": {"code": "missing", "message": "no answer of any kind came", "attempts": 4, "line": 3},
    }


def test_topics_and_images_have_the_columns_of_their_source(task):
    task.chunk(
        line("AI/1", "about AI", {"topic": "AI", "iteration": 1})
        + line("a/b.png", "look", {"path": "a/b.png"})
    )
    task.journal(1, "aa", answer(1, body=chat("x")) + answer(2, body=chat("y")))
    header, *found = rows(export(task, "csv"))
    assert header[:4] == ["topic", "iteration", "path", "answer"]
    assert [cells[:4] for cells in found] == [["AI", "1", "", "x"], ["", "", "a/b.png", "y"]]


def test_several_tasks_in_one_file(mixed, tmp_path):
    other = Task(tmp_path / "other")
    try:
        other.chunk(row(0, name="other", extra="x"))
        other.journal(1, "cc", answer(1, body=chat("theirs")))
        second = exported(other, "二")
        header, *found = rows(export(mixed, "csv", second))
        assert header[:5] == ["task_id", "name", "note", "extra", "answer"]
        assert [cells[0] for cells in found] == ["t", "t", "t", "t", "二"]
        assert found[-1][:5] == ["二", "other", "", "x", "theirs"]
        assert len(objects(export(mixed, "jsonl", second))) == 5
        whole = json.loads(export(mixed, "json", second))
        assert [one["task_id"] for one in whole["tasks"]] == ["t", "二"]
        assert whole["statistics"]["records"] == 5
    finally:
        other.close()


def test_statistics(mixed):
    workers = {"aa": "11:1", "bb": "22:2"}
    summary = {"state": "completed", "started": T, "ended": T + 60, "counts": {"input": 4, "output": 2}}
    data = export(mixed, "json", workers=lambda chunk: workers, summary=summary)
    found = json.loads(data)
    assert found["tasks"] == [{"task_id": "t", **summary, "seconds": 60.0, "success_rate": 0.5}]
    statistics = found["statistics"]
    assert {
        name: statistics[name] for name in ("records", "answered", "errors", "missing", "success_rate")
    } == {
        "records": 4,
        "answered": 2,
        "errors": 1,
        "missing": 1,
        "success_rate": 0.5,
    }
    assert statistics["latency_ms"] == {"mean": 532.0, "p50": 532, "p90": 532, "p99": 532, "max": 532}
    assert statistics["tokens"] == {"input": 3, "output": 8, "unknown": 1}
    workers = {one["worker"]: one for one in statistics["per_worker"]}
    assert {name: (one["answered"], one["records"]) for name, one in workers.items()} == {
        "11:1": (1, 2),
        "22:2": (1, 2),
    }
    first, second, third, _ = found["results"]
    assert (first["answer"], first["latency_ms"], first["worker"]) == ("好，是", 532, "11:1")
    assert first["input"] == {"name": "张三", "note": "a,b"}
    assert (second["answer"], second["error"]) == (None, {"code": "bad_request", "message": "no"})
    assert third["error"]["code"] == "missing"
    assert sum(line.startswith(b'    {"task_id"') for line in data.splitlines()) == 4, "a result a line"


@pytest.mark.parametrize("form", ["jsonl", "qa", "csv", "tsv", "json", "html", "parquet"])
def test_an_empty_task(task, form):
    data = export(task, form)
    if form == "json":
        assert json.loads(data)["statistics"]["success_rate"] is None
    if form in ("csv", "tsv"):
        assert len(data.splitlines()) == 1


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), st.sampled_from(["csv", "tsv"]))
def test_any_text_comes_back_from_a_table(tmp_path_factory, cells, form):
    task = Task(tmp_path_factory.mktemp("any"))
    try:
        task.chunk(b"".join(row(n, note=note) for n, (note, _) in enumerate(cells)))
        task.journal(1, "aa", b"".join(answer(n + 1, body=chat(text)) for n, (_, text) in enumerate(cells)))
        data = export(task, form, encoding="utf-8")
        found = rows(data, {"csv": ",", "tsv": "\t"}[form], "utf-8")[1:]
        assert [(one[0], one[1]) for one in found] == cells
    finally:
        task.close()


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), ("a", "a"), (1, "1"), (True, "true"), ({"a": "二"}, '{"a":"二"}')]
)
def test_cells(value, text):
    assert cell(value) == text

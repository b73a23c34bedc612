"""Packing: which lines go into which file, and what becomes of those that cannot be sent."""

import errno
import json
import os
import tracemalloc

import msgspec
import pytest
from batch_jobs_kit import CHAT, Desk, batch_plan, fire, numbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_kit import answer, attempt, error, missing
from worker_kit import ask

from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.journal.names import chunk_journals, journal_name
from batch_inferd.worker.batch.context import JobCancelled, NoPlan
from batch_inferd.worker.batch.packfile import estimate_tokens


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


def names(desk):
    return sorted(path.name for path in (desk.path / "batches").iterdir())


def journal(desk, *lines, chunk=1, lease="aa"):
    (desk.path / journal_name(chunk, lease)).write_bytes(b"".join(lines))


class TestFiles:
    def test_a_chunk_becomes_a_file(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(5)))
        found = desk.pack()
        (pack,) = found["packs"]
        assert pack["file"] == "batches/p.1.jsonl"
        assert (pack["url"], pack["model"], pack["lines"]) == (CHAT, "test-model", {"1": [[1, 5]]})
        lines = desk.packed(pack)
        assert [line["body"]["messages"][0]["content"] for line in lines] == [f"q{n}" for n in range(5)]
        assert {(line["method"], line["url"], line["body"]["max_tokens"]) for line in lines} == {
            ("POST", CHAT, 16)
        }
        assert (desk.path / pack["file"]).stat().st_mode & 0o777 == 0o600
        (chunk,) = found["chunks"]
        assert chunk["counts"] == dict.fromkeys(chunk["counts"], 0)
        assert (chunk["open"], chunk["online"], chunk["left"]) == (5, 0, 0)
        assert chunk_journals(desk.folder.directory, 1) == []

    def test_values_travel_raw(self, desk):
        messages = rb'[ {"role":"user","content":"\ud83d \u00e9 \/"} ]'
        desk.add(b'{"messages":' + messages + b',"n":1.50,"big":12345678901234567890123}')
        (pack,) = desk.pack()["packs"]
        data = (desk.path / pack["file"]).read_bytes()
        assert b'"messages":' + messages in data
        assert b'"n":1.50,"big":12345678901234567890123,' in data

    def test_chunks_share_a_file_in_input_order(self, desk):
        for chunk in range(3):
            desk.add(*(ask(f"{chunk}.{n}") for n in range(4)))
        (pack,) = desk.pack(3, 1, 2)["packs"]
        assert pack["lines"] == {"1": [[1, 4]], "2": [[5, 8]], "3": [[9, 12]]}
        desk.packed(pack)

    @pytest.mark.parametrize(
        ("cap", "sizes"),
        [({"max_requests": 4}, [4, 4, 2]), ({"max_requests": 1}, [1] * 10), ({"max_requests": 10}, [10])],
    )
    def test_the_cap_of_requests(self, desk, cap, sizes):
        desk.add(*(ask(f"q{n}") for n in range(10)))
        packs = desk.pack(**cap)["packs"]
        assert [pack["requests"] for pack in packs] == sizes
        assert [n for pack in packs for n in numbers(pack)] == list(range(1, 11))
        assert [pack["file"] for pack in packs] == [f"batches/p.{k}.jsonl" for k in range(1, len(sizes) + 1)]
        for pack in packs:
            desk.packed(pack)

    def test_the_cap_of_bytes_is_never_passed(self, desk):
        desk.add(*(ask("x" * (n * 37 % 400)) for n in range(50)))
        packs = desk.pack(max_bytes=2000, max_line_bytes=1000)["packs"]
        assert len(packs) > 3
        assert max(pack["bytes"] for pack in packs) <= 2000
        assert [n for pack in packs for n in numbers(pack)] == list(range(1, 51))

    def test_the_cap_of_tokens(self, desk):
        desk.add(*(ask("x" * 400) for n in range(9)))
        (one,) = desk.pack()["packs"]
        each = one["tokens"] // 9
        packs = desk.pack(max_tokens=3 * each + 1)["packs"]
        assert [pack["requests"] for pack in packs] == [3, 3, 3]
        packs = desk.pack(max_tokens=1)["packs"]
        assert [pack["requests"] for pack in packs] == [1] * 9  # it cannot be less than a line

    def test_files_are_limited(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(10)))
        found = desk.pack(max_requests=2, max_files=3)
        assert len(found["packs"]) == 3
        assert (found["chunks"][0]["open"], found["chunks"][0]["left"]) == (10, 4)

    def test_a_group_without_a_file_leaves_room_for_the_others(self, desk):
        desk.add(*(ask("q", model=f"m{n % 3}") for n in range(9)))
        found = desk.pack(max_files=2)
        assert [numbers(pack) for pack in found["packs"]] == [[1, 4, 7], [2, 5, 8]]
        assert found["chunks"][0]["left"] == 3

    def test_ranges_are_limited(self, desk):
        desk.add(*(ask("q", model=f"m{n % 2}") for n in range(10)))
        found = desk.pack(max_ranges=5)
        assert sorted(n for pack in found["packs"] for n in numbers(pack)) == [1, 2, 3, 4, 5]
        assert found["chunks"][0]["left"] == 5
        assert [pack["requests"] for pack in found["packs"]] == [3, 2]

    def test_what_is_left_is_counted_without_being_read(self, desk):
        desk.add(ask("a"), ask("b"), b"no json")
        desk.add(ask("c"), b"", b"no json either")
        found = desk.pack(1, 2, max_ranges=0)
        assert found["packs"] == []
        assert [(row["open"], row["left"]) for row in found["chunks"]] == [(3, 3), (2, 2)]
        assert names(desk) == []

    def test_nothing_to_pack(self, desk):
        desk.add(b"", b"  ")
        found = desk.pack()
        assert (found["packs"], found["chunks"][0]["open"]) == ([], 0)

    def test_a_run_again_writes_the_same_files(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(4)), b"bad")
        first = desk.pack(max_requests=2, job="j")
        (desk.path / "batches" / "p.3.jsonl").write_bytes(b"of a run with another cap")
        (desk.path / "batches" / "p2.1.jsonl").write_bytes(b"of another job")
        again = desk.pack(max_requests=4, job="j")
        assert [pack["requests"] for pack in first["packs"]] == [2, 2]
        assert [pack["requests"] for pack in again["packs"]] == [4]
        assert names(desk) == ["p.1.jsonl", "p2.1.jsonl"]
        assert again["chunks"][0]["counts"]["error"] == 1
        assert desk.folder.kinds() == {"error": 1}

    def test_caps_of_an_endpoint(self, desk):
        desk.use(batch_plan(BatchApi(max_requests_of={"embeddings": 2})))
        body = {"input": "x"}
        desk.add(*(json.dumps({"url": "/v1/embeddings", "body": body}).encode() for _ in range(5)))
        assert [pack["requests"] for pack in desk.pack()["packs"]] == [2, 2, 1]

    def test_embeddings_count_their_inputs(self, desk):
        inputs = ["one", ["a", "b"], [1, 2, 3, 4, 5], [[1], [2]], [], {"odd": 1}]
        desk.add(
            *(json.dumps({"url": "/v1/embeddings", "body": {"input": value}}).encode() for value in inputs)
        )
        assert [numbers(pack) for pack in desk.pack(max_requests=3)["packs"]] == [[1, 2], [3, 4], [5, 6]]


class TestGroups:
    def test_a_file_has_one_model_one_url_and_one_thinking_mode(self, desk):
        desk.add(
            ask("a"),
            ask("b", model="other"),
            ask("c", enable_thinking=True),
            ask("d", enable_thinking=False),
            ask("e", thinking={"type": "disabled"}),
            ask("f", reasoning={"effort": "low"}),
            ask("g", chat_template_kwargs={"enable_thinking": False}),
            json.dumps({"url": "/v1/embeddings", "body": {"input": "h"}}).encode(),
            ask("i"),
            ask("j", temperature=1),
        )
        found = desk.pack()
        assert [numbers(pack) for pack in found["packs"]] == [[1, 9, 10], *([n] for n in range(2, 9))]
        assert [(pack["url"], pack["model"]) for pack in found["packs"][:2]] == [
            (CHAT, "test-model"),
            (CHAT, "other"),
        ]
        assert found["packs"][-1]["url"] == "/v1/embeddings"

    def test_the_url_of_a_model(self, desk):
        api = BatchApi(urls={"chat": "/v4/chat"}, model_urls={"batch-test-model": "/v1/chat/ds-test"})
        desk.use(batch_plan(api))
        desk.add(ask("a"), ask("b", model="batch-test-model"))
        assert [pack["url"] for pack in desk.pack()["packs"]] == ["/v4/chat", "/v1/chat/ds-test"]

    def test_a_request_without_a_model_or_with_an_odd_one(self, desk):
        desk.use(batch_plan(defaults={}))
        desk.add(ask("a"), ask("b", model=5))
        assert [pack["model"] for pack in desk.pack()["packs"]] == ["", "5"]

    def test_long_values_do_not_fill_the_memory_or_a_frame(self, desk):
        long = {"x": "y" * 5000}
        desk.add(
            ask("a", chat_template_kwargs=long),
            ask("b", chat_template_kwargs=long),
            ask("c", chat_template_kwargs={"x": "z" * 5000}),
            ask("d", model="m" * 2000),
            ask("e", model="\ud83d"),
        )
        found = desk.pack()
        assert [numbers(pack) for pack in found["packs"]] == [[1, 2], [3], [5]]
        assert found["packs"][2]["model"] == "?"
        assert "2002 bytes" in desk.folder.records("error")[4]["rec"]["error"]["message"]


class TestWhichLines:
    def test_what_has_ended_or_goes_online_is_not_packed(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(1, 8)))
        journal(
            desk, answer(1), error(2), missing(3), attempt(4), attempt(5, move="online"), error(6, round=0),
        )  # fmt: skip
        found = desk.pack()
        assert numbers(found["packs"][0]) == [4, 7]
        (chunk,) = found["chunks"]
        assert (chunk["open"], chunk["online"], chunk["left"]) == (3, 1, 0)
        assert (chunk["counts"]["answered"], chunk["counts"]["error"], chunk["counts"]["missing"]) == (
            1,
            2,
            1,
        )
        assert chunk["counts"]["retries"] == 2

    def test_errors_of_an_earlier_round_are_packed_again(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(3)))
        journal(desk, answer(1), error(2), missing(3))
        assert numbers(desk.pack(round=1)["packs"][0]) == [2, 3]

    def test_only_and_exclude(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(10)))
        desk.add(*(ask(f"q{n}") for n in range(10)))
        rows = [
            desk.chunk(1, only=[[2, 4], [8, 11]], exclude=[[3, 3], [1, 1]]),
            desk.chunk(2, exclude=[[1, 12], [15, 40]]),
        ]
        found = desk.pack(*rows)
        assert found["packs"][0]["lines"] == {"1": [[2, 2], [4, 4], [8, 10]], "2": [[13, 14]]}
        assert [row["left"] for row in found["chunks"]] == [3, 0]
        assert [row["open"] for row in found["chunks"]] == [10, 10]
        assert desk.pack(desk.chunk(1, only=[]))["packs"] == []

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        marks=st.lists(st.sampled_from("gbxmo"), min_size=1, max_size=40),
        cap=st.integers(1, 9),
        only=st.none() | st.lists(st.tuples(st.integers(1, 45), st.integers(0, 9)), max_size=4),
        exclude=st.lists(st.tuples(st.integers(1, 45), st.integers(0, 9)), max_size=4),
    )
    def test_every_line_is_accounted_for(self, tmp_path_factory, marks, cap, only, exclude):
        desk = Desk(tmp_path_factory.mktemp("d"))
        made = {"g": ask("q"), "b": b" ", "x": b"no", "m": ask("q", model="m"), "o": ask("q")}
        desk.add(*(made[mark] for mark in marks))
        moved = [number for number, mark in enumerate(marks, 1) if mark == "o"]
        journal(desk, *(attempt(number, move="online") for number in moved))
        ranges = lambda pairs: [[first, first + more] for first, more in pairs]  # noqa: E731
        inside = lambda number, pairs: any(a <= number <= a + more for a, more in pairs)  # noqa: E731
        row = desk.chunk(1, only=None if only is None else ranges(only), exclude=ranges(exclude))
        found = desk.pack(row, max_requests=cap)
        packed = sorted(n for pack in found["packs"] for n in numbers(pack))
        wanted = [
            number
            for number, mark in enumerate(marks, 1)
            if mark in "gxm" and not inside(number, exclude) and (only is None or inside(number, only))
        ]
        assert packed == [number for number in wanted if marks[number - 1] != "x"]
        assert sorted(desk.folder.records("error")) == [n for n in wanted if marks[n - 1] == "x"]
        (chunk,) = found["chunks"]
        full = [number for number, mark in enumerate(marks, 1) if mark != "b"]
        assert chunk["open"] == len(full) - chunk["counts"]["error"]
        assert chunk["online"] == len(moved)
        excluded = [n for n in full if inside(n, exclude) and marks[n - 1] != "o"]
        assert chunk["left"] == chunk["open"] - len(moved) - len(packed) - len(excluded)
        assert all(pack["requests"] <= cap for pack in found["packs"])
        desk.close()


class TestLinesThatCannotBeSent:
    def test_they_end_as_errors_and_their_neighbours_are_packed(self, desk):
        lines = [ask("a"), b"not json", b'{"custom_id":"mine","messages":7}', b"\xff\xfe", b"[1]", ask("b")]
        desk.add(*lines)
        found = desk.pack(job="j9")
        assert found["packs"][0]["lines"] == {"1": [[1, 1], [6, 6]]}
        errors = desk.folder.records("error")
        assert sorted(errors) == [2, 3, 4, 5]
        assert {entry["class"] for entry in errors.values()} == {"invalid_input"}
        assert {(entry["round"], entry["attempt"]) for entry in errors.values()} == {(0, 0)}
        assert errors[2]["rec"]["custom_id"] == "2"
        assert errors[3]["rec"]["custom_id"] == "mine"
        assert errors[2]["rec"]["error"]["raw"] == "not json"
        assert errors[2]["rec"]["response"] is None
        assert (found["chunks"][0]["counts"]["error"], found["chunks"][0]["open"]) == (4, 2)
        assert chunk_journals(desk.folder.directory, 1) == [journal_name(1, "j9")]

    def test_a_request_over_the_cap_is_too_large(self, desk):
        desk.add(ask("x" * 500), ask("x" * 2000, custom_id="big"), ask("y"))
        found = desk.pack(max_line_bytes=1000)
        assert numbers(found["packs"][0]) == [1, 3]
        entry = desk.folder.records("error")[2]
        assert (entry["class"], entry["rec"]["custom_id"]) == ("too_large", "big")
        assert "takes 1000" in entry["rec"]["error"]["message"]
        assert len(entry["rec"]["error"]["raw"]) > 2000

    def test_a_request_over_the_cap_of_a_file_is_too_large(self, desk):
        desk.add(ask("x" * 2000))
        assert desk.pack(max_bytes=1000)["packs"] == []
        assert desk.folder.records("error")[1]["class"] == "too_large"

    def test_exactly_at_the_cap(self, desk):
        desk.add(ask("abc"))
        size = desk.pack()["packs"][0]["bytes"]
        assert desk.pack(max_line_bytes=size)["packs"][0]["bytes"] == size
        assert desk.pack(max_line_bytes=size - 1)["packs"] == []

    def test_an_input_line_over_the_limit_is_not_read(self, desk):
        desk.use(batch_plan(max_line_bytes=1000))
        desk.add(ask("a"), b'{"custom_id":"mine","messages":["' + b"x" * 100_000 + b'"]}')
        desk.pack()
        entry = desk.folder.records("error")[2]
        assert (entry["class"], entry["rec"]["custom_id"]) == ("invalid_input", "2")
        assert entry["rec"]["error"]["raw_truncated"] is True

    def test_an_endpoint_that_the_batch_api_lacks(self, desk):
        desk.use(batch_plan(BatchApi(urls={"chat": CHAT})))
        desk.add(ask("a"), b'{"custom_id":"e","url":"/v1/embeddings","body":{"input":"x"}}')
        assert numbers(desk.pack()["packs"][0]) == [1]
        entry = desk.folder.records("error")[2]
        assert entry["class"] == "invalid_input"
        assert 'no "/v1/embeddings"' in entry["rec"]["error"]["message"]

    def test_attempts_made_before_are_told(self, desk):
        desk.add(b"bad")
        journal(desk, attempt(1, 3))
        desk.pack()
        assert desk.folder.records("error")[1]["rec"]["error"]["attempts"] == 3


class TestShapesOfTheFile:
    def test_bom_crlf_blank_lines_and_no_final_newline(self, desk):
        desk.add(b"\xef\xbb\xbf" + ask("a") + b"\r", b"\r", b"", b"  \t", ask("b") + b"\r", ask("c"), end=b"")
        found = desk.pack()
        (pack,) = found["packs"]
        assert pack["lines"] == {"1": [[1, 1], [5, 6]]}
        assert [line["body"]["messages"][0]["content"] for line in desk.packed(pack)] == ["a", "b", "c"]
        assert b"\r" not in (desk.path / pack["file"]).read_bytes()
        assert found["chunks"][0]["open"] == 3

    def test_line_separators_do_not_break_a_line(self, desk):
        desk.add(ask("x").replace(b"x", "a\u2028b\u0085c".encode()), b'{"messages":[\r1]}')
        (pack,) = desk.pack()["packs"]
        assert (desk.path / pack["file"]).read_text().splitlines() == [
            line for line in (desk.path / pack["file"]).read_text().split("\n") if line
        ]

    def test_long_lines_and_many_blocks(self, desk):
        desk.add(*(ask("x" * (n * 7919 % 300_000)) for n in range(40)))
        packs = desk.pack(max_bytes=1_000_000)["packs"]
        assert [n for pack in packs for n in numbers(pack)] == list(range(1, 41))
        contents = [line["body"]["messages"][0]["content"] for pack in packs for line in desk.packed(pack)]
        assert contents == ["x" * (n * 7919 % 300_000) for n in range(40)]

    def test_a_file_that_is_not_what_was_cut(self, desk):
        desk.add(ask("a"), b"bad")
        with pytest.raises(OSError, match="has 2 lines") as caught:
            desk.pack(desk.chunk(1) | {"lines": 3})
        assert caught.value.errno == errno.EIO
        assert desk.folder.kinds() == {}


class TestFaults:
    def test_nothing_stays_open_or_behind_when_it_fails(self, desk, monkeypatch):
        desk.add(*(ask(f"q{n}") for n in range(10)))
        desk.add(ask("x"))
        before = len(os.listdir("/proc/self/fd"))
        (desk.path / desk.chunk(2)["chunk_file"]).unlink()
        with pytest.raises(FileNotFoundError):
            desk.pack(1, 2, max_requests=3)
        assert names(desk) == []
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.parametrize("where", ["write:batches/", "sync:batches", "open:batches/", "sync:."])
    def test_a_disk_that_is_full(self, desk, monkeypatch, where):
        desk.add(*(ask(f"q{n}") for n in range(10)))
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"{where}={errno.ENOSPC}")
        with pytest.raises(OSError, match="planned") as caught:
            desk.pack()
        assert caught.value.errno == errno.ENOSPC
        monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
        assert names(desk) == []
        assert numbers(desk.pack()["packs"][0]) == list(range(1, 11))

    def test_a_journal_that_cannot_be_written(self, desk, monkeypatch):
        desk.add(ask("a"), b"bad")
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:chunk_={errno.ENOSPC}")
        with pytest.raises(OSError, match="planned"):
            desk.pack()
        monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
        assert desk.pack()["chunks"][0]["counts"]["error"] == 1
        assert desk.folder.kinds() == {"error": 1}

    def test_the_failpoint_stands_behind_all_that_is_durable(self, desk, monkeypatch):
        desk.add(ask("a"), b"bad")
        fire(monkeypatch, "batch.packed", errno.EIO)
        with pytest.raises(OSError, match=r"batch\.packed"):
            desk.pack()
        assert desk.folder.kinds() == {"error": 1}
        assert names(desk) == ["p.1.jsonl"]  # as a process that ended there would leave it
        monkeypatch.undo()
        found = desk.pack()
        assert numbers(found["packs"][0]) == [1]
        assert desk.folder.kinds() == {"error": 1}

    def test_torn_journals_are_mended_first(self, desk):
        desk.add(ask("a"), ask("b"))
        journal(desk, answer(1), answer(2)[:-20])
        assert numbers(desk.pack()["packs"][0]) == [2]
        assert (desk.path / journal_name(1, "aa")).read_bytes() == answer(1)

    def test_cancelled(self, desk):
        desk.add(*(ask(f"q{n}") for n in range(1000)))
        desk.stop.set()
        with pytest.raises(JobCancelled):
            desk.pack()
        assert names(desk) == []

    def test_a_plan_without_batches(self, desk):
        desk.use(msgspec.structs.replace(desk.prepared.plan, batch=None))
        desk.add(ask("a"))
        with pytest.raises(NoPlan):
            desk.pack()


def test_token_estimates():
    assert [estimate_tokens(b"x" * n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert estimate_tokens("你好".encode()) == 2
    assert estimate_tokens("ab你".encode()) == 2  # 2/4 + 3/3
    assert estimate_tokens("abcd你".encode()) == 2


def test_memory_does_not_grow_with_the_task(desk):
    for chunk in range(24):
        desk.add(*(ask(f"{chunk}.{n} " + "x" * 400) for n in range(500)))

    def peak(chunks):
        tracemalloc.start()
        try:
            desk.pack(*range(1, chunks + 1), max_requests=1000)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(24) < 1.2 * peak(4) + 200_000

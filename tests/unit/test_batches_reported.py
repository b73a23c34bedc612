"""What a report says of batches one by one: what each has cost, and no zero where nobody knows."""

import json
from types import SimpleNamespace

import pytest
from journal_kit import Task

from batch_inferd.batches import reported as module
from batch_inferd.batches.reported import reported
from batch_inferd.store.submissions import NewSubmission, SubmissionStore
from batch_inferd.store.taskdb import TaskDB
from batch_inferd.store.writer import StoreWriter
from batch_inferd.tasks.money import TaskMoney

PRICES = {"input": 3.0, "output": 12.0, "cached_input": 1.0, "batch_discount": 0.5, "currency": "EUR"}
TOLD = {
    "answered": 10, "failed": 1, "unknown": 0, "duplicate": 2, "unreadable": 0,
    "tokens_in": 1000, "tokens_cached": 400, "tokens_out": 500, "tokens_unknown": 0,
}  # fmt: skip
COST = (600 * 3.0 + 400 * 1.0 + 500 * 12.0) / 2 / 1e6
NOTHING = dict.fromkeys(TOLD, 0)


def money(**changes):
    prices = {name: value for name, value in (PRICES | changes).items() if value is not None}
    return TaskMoney(SimpleNamespace(config={"config": {"prices": prices}}, facts={}))


def detail(**more):
    fixed = {"file": "batches/x.jsonl", "bytes": 1, "requests": 11, "tokens": 1, "url": "", "model": "m"}
    return {**fixed, "round": 0, **more}


@pytest.fixture
async def store(tmp_path):
    writer = StoreWriter()
    db = await TaskDB.open(writer, tmp_path)
    yield SubmissionStore(db)
    await db.close()
    writer.close()


async def add(store, *details, state="collected", batch="b"):
    """Closed submissions, numbered on."""
    first = sum((await store.totals()).values()) + 1
    new = [NewSubmission(f"t{first + n}", one, {}) for n, one in enumerate(details)]
    numbers, _ = await store.add(new, [], 1.0)
    for number, one in zip(numbers, details, strict=True):
        await store.close(
            number, token=f"t{number}", state=state, upstream_id=f"{batch}{number}" if batch else None,
            input_ref=None, detail=one, lines={}, ends=[], now=2.0,
        )  # fmt: skip


async def test_each_batch_with_its_cost(store):
    await add(store, detail(results=TOLD, completed=10), detail(results=TOLD, round=1))
    await add(store, detail(), state="refused", batch=None)
    found = await reported(store, money())
    rows = found.pop("list")
    assert found == {
        "submissions": {"collected": 2, "refused": 1},
        "unknown": 0, "duplicate": 4, "unreadable": 0, "currency": "EUR", "left_out": 0,
    }  # fmt: skip
    assert rows[0] == {
        "submission": 1, "batch": "b1", "state": "collected", "round": 0, "requests": 11, "results": TOLD,
        "cost": pytest.approx(COST),
    }  # fmt: skip
    assert (rows[1]["submission"], rows[1]["batch"], rows[1]["round"]) == (2, "b2", 1)
    assert rows[2] == rows[0] | {
        "submission": 3, "batch": None, "state": "refused", "results": None, "cost": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "cost"),
    [
        ({"results": TOLD}, COST),
        ({"results": TOLD | {"tokens_unknown": 9}}, COST),
        (
            {"results": TOLD | {"tokens_in": 0, "tokens_cached": 0, "tokens_out": 0, "tokens_unknown": 10}},
            None,
        ),
        ({"results": {"answered": 10}}, None),
        ({"results": NOTHING, "end_state": "failed"}, 0.0),
        ({"results": NOTHING | {"failed": 11}, "end_state": "completed"}, 0.0),
        ({"results": NOTHING, "completed": 3, "end_state": "expired"}, None),
        ({"results": NOTHING, "end_state": "completed"}, None),
        ({"results": NOTHING | {"unreadable": 1}}, None),
        ({"results": NOTHING, "unsure": True}, None),
        ({"results": None}, None),
    ],
)
async def test_what_nobody_told_is_unknown_and_never_zero(store, facts, cost):
    await add(store, detail(**facts))
    (row,) = (await reported(store, money()))["list"]
    assert row["cost"] == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize(
    ("changes", "currency"), [({"batch_discount": None}, "EUR"), ({"input": None, "output": None}, None)]
)
async def test_without_a_price_the_cost_is_unknown(store, changes, currency):
    await add(store, detail(results=TOLD))
    snapshot = money(**changes)
    snapshot._task.config |= {"service": "http://here", "model": "m", "profile": {}}
    found = await reported(store, snapshot)
    assert (found["currency"], [row["cost"] for row in found["list"]]) == (currency, [None])


async def test_no_more_than_the_first_are_listed(store, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    await add(store, *[detail(results=TOLD) for _ in range(5)])
    found = await reported(store, money())
    assert [row["submission"] for row in found["list"]] == [1, 2, 3]
    assert found["left_out"] == 2
    assert found["submissions"] == {"collected": 5}


async def test_the_report_has_a_batch_a_line_and_is_the_same_again(store, tmp_path):
    await add(store, detail(results=TOLD), detail(results=TOLD), batch="批\n")
    (tmp_path / "task").mkdir()
    task = Task(tmp_path / "task")
    try:
        task.simple(6)
        made = []
        for _ in range(2):
            batches = await reported(store, money())
            task.merge(header={"backend": "batch", "batches": batches})
            assert task.report()["batches"] == batches
            made.append(task.staged("report.json"))
    finally:
        task.close()
    assert made[0] == made[1]
    assert sum(line.startswith(b'      {"submission"') for line in made[0].splitlines()) == 2
    assert list(json.loads(made[0]))[-2:] == ["batches", "chunks"]


async def test_a_report_without_any_batch(store, tmp_path):
    (tmp_path / "task").mkdir()
    task = Task(tmp_path / "task")
    try:
        task.simple(1)
        task.merge(header={"batches": await reported(store, money())})
        assert task.report()["batches"]["list"] == []
    finally:
        task.close()

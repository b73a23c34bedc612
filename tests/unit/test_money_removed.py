"""What removed tasks have cost is kept, once for each, and read page by page."""

import errno
import sqlite3
from types import SimpleNamespace

import pytest

from batch_infer.protocol.errors import InputError, TaskConflict
from batch_inferd.money.removed import RemovedCosts
from batch_inferd.tasks import removing


@pytest.fixture
def costs(tmp_path):
    return RemovedCosts(tmp_path / ".costs.db")


def bill(task_id, answered=1):
    return {"task_id": task_id, "answered": answered}


def test_a_workspace_without_removed_tasks(costs):
    assert costs.page(0, 10, 1000, set()) == ([], None)
    assert costs.of("A", 10) == []
    assert not costs.path.exists()


def test_once_for_each_task_however_often_it_is_kept(costs):
    costs.keep("u1", bill("A"))
    costs.keep("u2", bill("A", 2))
    costs.keep("u1", bill("A", 3))
    assert costs.page(0, 10, 1000, set()).bills == [bill("A", 2), bill("A", 3)]
    assert costs.of("A", 10) == [bill("A", 2), bill("A", 3)]
    assert costs.of("A", 1) == [bill("A", 3)]
    assert costs.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("most", "size"), [(1, 10_000), (3, 10_000), (10, 1), (10, 60)])
def test_pages_together_are_all_of_it(costs, most, size):
    for number in range(7):
        costs.keep(f"u{number}", bill(f"T{number}"))
    found, after = [], 0
    while after is not None:
        page = costs.page(after, most, size, {"u3"})
        assert len(page.bills) <= most
        found += page.bills
        after = page.next
    assert [one["task_id"] for one in found] == ["T0", "T1", "T2", "T4", "T5", "T6"]


def test_a_crash_before_the_first_row(costs):
    costs.path.touch()
    assert costs.page(0, 10, 1000, set()).bills == []
    costs.keep("u", bill("A"))
    assert costs.of("A", 1) == [bill("A")]


def test_a_damaged_file_is_named(costs):
    costs.path.write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(InputError, match=r"\.costs\.db"):
        costs.page(0, 10, 1000, set())
    with pytest.raises(TaskConflict, match=r"\.costs\.db"):
        removing._keep(costs, "u", bill("A"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_does_not_keep_a_task_from_going(costs, number):
    def full(*_):
        raise OSError(number, "full")

    assert not removing._keep(SimpleNamespace(keep=full, path=costs.path), "u", bill("A"))


def test_a_database_that_is_full_likewise(costs):
    costs.keep("u", bill("A"))
    with sqlite3.connect(costs.path) as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.close()

    def small(_, timeout):
        made = sqlite3_connect(costs.path, timeout=timeout)
        made.execute(f"PRAGMA max_page_count = {pages}")
        return made

    sqlite3_connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch_inferd.money.removed.sqlite3.connect", small)
        assert not removing._keep(costs, "v", bill("B" * 10_000))
    assert costs.of("A", 1) == [bill("A")]

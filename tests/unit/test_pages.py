"""A page of summaries fits into a frame, however long the texts of its tasks are."""

from batch_infer.protocol import frames, rpc
from batch_inferd.requests import pages


def test_a_page_fits_into_a_frame(monkeypatch):
    monkeypatch.setattr(pages, "summary", lambda n: {"task_id": f"t{n}", "reason": "长" * 2000})
    rows = pages.summaries(range(1000))
    assert [row["task_id"] for row in rows] == [f"t{n}" for n in range(len(rows))]
    assert 10 < len(rows) < 1000
    frames.encode(rpc.result(1, {"tasks": rows}))


def test_one_row_at_least(monkeypatch):
    monkeypatch.setattr(pages, "summary", lambda n: {"task_id": f"t{n}", "reason": "长" * 200_000})
    assert len(pages.summaries(range(3))) == 1
    assert pages.summaries([]) == []

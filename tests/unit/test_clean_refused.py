"""`clean` tells of each task that stays why it does, and what to do about it."""

from contextlib import nullcontext
from types import SimpleNamespace

from batch_infer.protocol.text import Text
from batch_inferd.checks.content import Tick
from batch_inferd.money.removed import RemovedCosts
from batch_inferd.requests import clean
from batch_inferd.tasks import removing, states


async def test_a_refusal_says_what_to_do(tmp_path, monkeypatch):
    costs = RemovedCosts(tmp_path / ".costs.db")
    costs.path.write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    task = SimpleNamespace(id="A", uuid="u", state=states.COMPLETED, facts={})

    async def find(_name):
        return task

    async def remove(_registry, which):
        removing._keep(costs, which.uuid, {"task_id": which.id})

    monkeypatch.setattr(clean, "remove", remove)
    app = SimpleNamespace(registry=SimpleNamespace(lock=lambda _name: nullcontext(), find=find))
    answer = await clean._remove_all(app, [("A", "u")], Tick(total=1))
    (refusal,) = answer["refused"]
    assert answer["removed"] == []
    assert refusal["error"] == "task_conflict"
    assert str(costs.path) in str(Text.from_wire(refusal["text"]))
    assert [str(Text.from_wire(hint)) for hint in refusal["hints"]] == [
        "move that file away, and another one is made"
    ]


async def test_a_refusal_without_a_hint():
    task = SimpleNamespace(id="A", uuid="other", state=states.COMPLETED, facts={})

    async def find(_name):
        return task

    app = SimpleNamespace(registry=SimpleNamespace(lock=lambda _name: nullcontext(), find=find))
    (refusal,) = (await clean._remove_all(app, [("A", "u")], Tick(total=1)))["refused"]
    assert refusal["hints"] == []

"""Slots: whatever the order of messages, the calls in flight never pass the window."""

from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.scheduling.slots import Slots


def test_a_second_worker_waits_for_the_first_to_let_go():
    slots = Slots()
    assert slots.divide(9, ["a"])["a"] == (9, 9)
    shares = slots.divide(9, ["a", "b"])
    assert shares["a"] == (5, 5)
    assert shares["b"] == (4, 0)  # «a» may still have nine in flight
    slots.reported("a", 9, 9)  # an old report
    assert slots.divide(9, ["a", "b"])["b"].now == 0
    slots.reported("a", 5, 7)
    assert slots.divide(9, ["a", "b"])["b"].now == 2
    slots.reported("a", 5, 5)
    assert slots.divide(9, ["a", "b"])["b"].now == 4


def test_a_dead_worker_frees_its_share():
    slots = Slots()
    slots.divide(8, ["a", "b"])
    slots.gone("a")
    assert slots.divide(8, ["b"])["b"] == (8, 8)


class Model:
    """Workers that hear late, answer late, and always send as much as they may."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.heard: dict[str, int] = {}
        self.flying: dict[str, int] = {}
        self.mail: dict[str, list[int]] = {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["divide", "hear", "answer", "end", "die"]), st.integers(1, 12), st.integers(0, 2)
        ),
        max_size=80,
    )
)
def test_the_window_holds(steps):
    model, window = Model(), 12
    names = ["a", "b", "c"]
    present: list[str] = []
    for kind, number, which in steps:
        name = names[which]
        if kind == "divide":
            if name not in present:
                present.append(name)
            for worker, share in model.slots.divide(window, present).items():
                model.mail.setdefault(worker, []).append(share.now)
        elif kind == "hear" and model.mail.get(name):
            model.heard[name] = model.mail[name].pop(0)
        elif kind == "answer" and name in present:
            model.slots.reported(name, model.heard.get(name, 0), model.flying.get(name, 0))
        elif kind == "end":
            model.flying[name] = max(0, model.flying.get(name, 0) - number)
        elif kind == "die" and name in present:
            present.remove(name)
            model.slots.gone(name)
            model.heard[name] = model.flying[name] = 0
            model.mail[name] = []
        for worker, most in model.heard.items():
            model.flying[worker] = max(model.flying.get(worker, 0), most)
        assert sum(model.flying.values()) <= window

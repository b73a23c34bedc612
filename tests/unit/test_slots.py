"""Slots: whatever the order of messages, the calls in flight never pass the window."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.scheduling.slots import Slots


def test_a_second_worker_waits_for_the_first_to_let_go():
    slots = Slots()
    assert slots.divide(9, ["a"], {}, 1)["a"] == (9, 9)
    shares = slots.divide(9, ["a", "b"], {}, 2)
    assert shares["a"] == (5, 5)
    assert shares["b"] == (4, 0)  # «a» may still have nine in flight
    slots.reported("a", 1, 9)  # an old report
    assert slots.divide(9, ["a", "b"], {}, 3)["b"].now == 0
    slots.reported("a", 3, 7)
    assert slots.divide(9, ["a", "b"], {}, 4)["b"].now == 2
    slots.reported("a", 4, 5)
    assert slots.divide(9, ["a", "b"], {}, 5)["b"].now == 4


def test_a_dead_worker_frees_its_share():
    slots = Slots()
    slots.divide(8, ["a", "b"], {}, 1)
    slots.gone("a")
    assert slots.divide(8, ["b"], {}, 2)["b"] == (8, 8)


def test_a_worker_that_hears_two_words_before_it_answers():
    slots = Slots()
    slots.divide(8, ["a", "b"], {}, 1)
    slots.divide(8, ["a", "b"], {"b": 1.0}, 2)
    slots.divide(8, ["a", "b"], {"a": 1.0}, 3)
    slots.reported("b", 3, 0)
    assert slots.divide(8, ["a", "b"], {"a": 1.0}, 4) == {"a": (7, 7), "b": (1, 1)}


@given(
    st.integers(0, 200),
    st.lists(st.floats(0, 100) | st.just(0.0), min_size=1, max_size=8),
)
def test_shares_follow_the_weights_and_add_up(window, weights):
    names = [f"w{index}" for index in range(len(weights))]
    shares = Slots().divide(window, names, dict(zip(names, weights, strict=True)), 1)
    assert sum(share.due for share in shares.values()) == window
    if window >= len(names):
        assert min(share.due for share in shares.values()) >= 1
    for one, other in itertools.pairwise(names):
        if weights[names.index(one)] > weights[names.index(other)]:
            assert shares[one].due >= shares[other].due or window < len(names)


def test_a_leaving_worker_holds_what_it_has_in_flight():
    slots = Slots()
    slots.divide(8, ["a", "b"], {}, 1)
    assert slots.leave("a", 2)
    assert not slots.leave("a", 3)
    assert slots.divide(8, ["b"], {}, 4)["b"].now == 4
    slots.reported("a", 2, 3)
    assert slots.divide(8, ["b"], {}, 5)["b"].now == 5


class Model:
    """Workers that hear late, answer late, and always send as much as they may."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.word = 0
        self.heard: dict[str, tuple[int, int]] = {}  # worker -> word and slots
        self.flying: dict[str, int] = {}
        self.mail: dict[str, list[tuple[int, int]]] = {}


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
            model.word += 1
            shares = model.slots.divide(window, present, {name: float(number)}, model.word)
            for worker, share in shares.items():
                model.mail.setdefault(worker, []).append((model.word, share.now))
        elif kind == "hear" and model.mail.get(name):
            model.heard[name] = model.mail[name].pop(0)
        elif kind == "answer" and name in present:
            model.slots.reported(name, model.heard.get(name, (0, 0))[0], model.flying.get(name, 0))
        elif kind == "end":
            model.flying[name] = max(0, model.flying.get(name, 0) - number)
        elif kind == "die" and name in present:
            present.remove(name)
            model.slots.gone(name)
            model.heard[name], model.flying[name] = (0, 0), 0
            model.mail[name] = []
        for worker, (_, most) in model.heard.items():
            model.flying[worker] = max(model.flying.get(worker, 0), most)
        assert sum(model.flying.values()) <= window

"""The controls are checked as a whole, and say what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.testing.controls import ACTIONS, Controls, ControlsError, Rule, parse_controls


def test_without_controls_nothing_goes_wrong():
    assert parse_controls("{}") == Controls()
    assert Controls().latency_range == (0.0, 0.0)


def test_all_keys_survive_the_way_through_json():
    controls = Controls(
        latency_ms=(1.0, 2.0),
        retry_after="soon",
        pretty="crlf",
        bad_keys=("a", "b"),
        rules=(Rule("x", "slow:0.5", 3), Rule("y", "drop")),
    )
    assert Controls().merged(controls.as_json()) == controls


def test_merging_replaces_only_the_keys_named():
    controls = Controls(error_rate=0.5, rpm=10)
    assert controls.merged({"rpm": None}) == Controls(error_rate=0.5)


def test_an_unknown_key_names_the_known_ones():
    with pytest.raises(ControlsError, match=r"unknown controls: eror_rate; known: latency_ms, error_rate, "):
        Controls().merged({"eror_rate": 0.1, "seed": 1})


@pytest.mark.parametrize(
    "patch",
    [
        {"error_rate": 1.1},
        {"error_rate": "much"},
        {"latency_ms": -1},
        {"latency_ms": [5, 1]},
        {"latency_ms": [1, 2, 3]},
        {"retry_after": "1\r\nX-Evil: yes"},
        {"auth": "maybe"},
        {"rpm": 0},
        {"max_concurrency": 0},
        {"rules": [{"contains": "x", "do": "explode"}]},
        {"rules": [{"contains": "x", "do": "slow:inf"}]},
        {"rules": [{"contains": "x", "do": "slow:soon"}]},
        {"rules": [{"contains": "x", "do": "drop", "time": 1}]},
        {"rules": [{"contains": "x", "do": "drop", "times": -1}]},
        [],
        "x",
    ],
)
def test_nonsense_is_refused(patch):
    with pytest.raises(ControlsError):
        Controls().merged(patch)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[1]", "\ud800"])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ControlsError):
        parse_controls(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_rate_is_a_share(rate):
    if 0 <= rate <= 1:
        assert Controls().merged({"drop_rate": rate}).drop_rate == rate
    else:
        with pytest.raises(ControlsError):
            Controls().merged({"drop_rate": rate})


@given(st.sampled_from(ACTIONS) | st.floats(0, 1e6).map(lambda s: f"slow:{s}"))
def test_every_action_is_accepted(do):
    rules = Controls().merged({"rules": [{"contains": "x", "do": do}]}).rules
    assert rules == (Rule("x", do, None),)

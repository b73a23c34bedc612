"""A learned value: growth only in use, gentle probes, deeper cuts in a row, bounds always."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.scheduling.aimd import REST_S, Aimd

STEP_S = 0.1


def grow(value: Aimd, seconds: float) -> None:
    for _ in range(round(seconds / STEP_S)):
        value.grow(STEP_S)


def settled(at: float = 100.0) -> Aimd:
    value = Aimd(at, 10_000)
    value.settle(at)
    return value


def test_slow_start_doubles_each_second_up_to_the_most():
    window = Aimd(64, 1024)
    grow(window, 1.0)
    assert window.value == pytest.approx(128)
    grow(window, 10.0)
    assert window.value == 1024


def test_what_passed_rests_then_is_probed_gently_and_doubles_within_a_minute():
    value = settled()
    grow(value, REST_S)
    assert value.value == pytest.approx(100, rel=0.01)
    grow(value, 6.0)
    assert 101 <= value.value <= 103
    grow(value, 60.0 - REST_S - 6.0)
    assert value.value >= 200


def test_a_cut_out_of_a_probe_goes_back_to_just_under_what_passed():
    value = settled()
    grow(value, REST_S + 8.0)
    probed = value.value
    value.cut(probed)
    assert 100 <= value.value < probed
    assert value.value >= 0.95 * probed


def test_cuts_in_a_row_are_deeper_but_not_far_under_what_passes():
    value = settled()
    cuts = []
    for _ in range(6):
        before = value.value
        value.cut(10.0)
        cuts.append(value.value / before)
    assert cuts == sorted(cuts, reverse=True) or value.value == pytest.approx(8.0)
    assert value.value >= 8.0
    grow(value, 60.0)
    assert value.value > 8.0


def test_after_cuts_in_a_row_half_of_the_way_back_is_taken_at_once():
    value = settled()
    for _ in range(4):
        refused = value.value
        value.cut(20.0)
    low = value.value
    grow(value, 4.2)
    assert value.value == pytest.approx((low + refused) / 2, rel=0.05)


def test_room_is_kept_only_upwards_and_never_in_slow_start():
    value = settled()
    value.raise_to(50.0)
    assert value.value == 100
    value.raise_to(150.0)
    assert value.value == 150
    window = Aimd(8, 100)
    window.raise_to(50.0)
    assert window.value == 8


def test_new_bounds_hold_at_once_and_a_restart_forgets():
    window = Aimd(64, 1024)
    window.cut(64)
    window.set_bounds(64, 10)
    assert window.value == 10
    window.set_bounds(64, 1024)
    window.restart(200)
    assert window.value == 200
    assert window.slow_start


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("grow"), st.floats(0, 30)),
            st.tuples(st.just("cut"), st.floats(0, 500)),
            st.tuples(st.just("raise"), st.floats(0, 500)),
        )
    )
)
def test_it_stays_within_bounds(steps):
    value = Aimd(8, 200)
    for kind, number in steps:
        before = value.value
        if kind == "grow":
            value.grow(number)
            assert value.value >= before or value.value == pytest.approx(before)
        elif kind == "cut":
            value.cut(number)
            assert value.value <= before
        else:
            value.raise_to(number)
        assert 1 <= value.value <= 200

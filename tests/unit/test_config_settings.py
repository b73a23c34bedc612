"""Settings of a command line: over a config, and over a task's snapshot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.cli.options import FLAGS
from batch_infer.cli.options.steering import SETTINGS
from batch_infer.cli.options.submitting import MODES as OFFERED_MODES
from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import MODES, Config, Execution, Limits, Model
from batch_inferd.config.settings import SECTION_OF, differences, read_settings, with_settings
from batch_inferd.config.snapshot import completed, identity, snapshot
from batch_inferd.services.resolve import resolve

MINIMAL = "model: {domain: test, password: x, max_tokens: 1}\n"


def parse(text, **settings):
    return parse_config(text.encode(), "config.yaml", settings)


def problems(call, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return [str(problem) for problem in caught.value.problems]


def test_the_words_of_the_client_are_those_of_the_config():
    assert OFFERED_MODES == MODES
    assert set(SETTINGS) == set(SECTION_OF)
    (named,) = (flag.help for flag in FLAGS if flag.name == "set")
    for key in SECTION_OF:
        assert key in str(named)


def test_all_kinds_are_read():
    values = read_settings(
        {
            "concurrency": "5",
            "max_concurrency": " 7 ",
            "rpm": "null",
            "tpm": "None",
            "bytes_in_flight": "1MiB",
            "processes": "2",
            "mode": "threading",
            "priority": "-3",
            "log_dir": "/var/log/tasks",
            "log_level": "debug",
        }
    )
    assert values == {
        "concurrency": 5,
        "max_concurrency": 7,
        "rpm": None,
        "tpm": None,
        "bytes_in_flight": 2**20,
        "processes": 2,
        "mode": "threading",
        "priority": -3,
        "log_dir": "/var/log/tasks",
        "log_level": "debug",
    }


def test_all_problems_are_told_at_once():
    keys = ", ".join(SECTION_OF)
    told = problems(
        read_settings,
        {"concurency": "5", "processes": "65", "rpm": "fast", "priority": "", "mode": "null", "usd": "1"},
    )
    assert told == [
        "priority needs a value",
        "mode needs a value",
        'unknown key "concurency"; did you mean "concurrency"?',
        "processes must be a whole number from 1 to 64, found the number 65; write a value in this range",
        'rpm must be a whole number, found the string "fast"; write a number such as 600',
        f'unknown key "usd"; known keys are {keys}',
    ]


@pytest.mark.parametrize("value", ["null", "none", "", "~"])
def test_only_limits_can_be_taken_away(value):
    assert problems(read_settings, {"concurrency": value})


def test_one_process_and_several_contradict():
    told = problems(read_settings, {"mode": "asyncio", "processes": "4"})
    assert told == ["processes must be 1 in mode asyncio; take another mode for more"]


@pytest.mark.parametrize(
    ("text", "settings", "mode", "processes"),
    [
        ("", {"processes": "4"}, "multiprocessing", 4),
        ("", {"mode": "threading", "processes": "4"}, "threading", 4),
        ("execution: {mode: asyncio}", {"processes": "4"}, "multiprocessing", 4),
        ("execution: {mode: threading, processes: 2}", {"processes": "4"}, "threading", 4),
        ("execution: {mode: threading, processes: 2}", {"mode": "asyncio"}, "asyncio", 1),
        ("execution: {processes: 3}", {"mode": "multiprocessing"}, "multiprocessing", 3),
        ("execution:", {"mode": "multiprocessing"}, "multiprocessing", 1),
        ("execution: {mode: multiprocessing, processes: 3}", {"processes": "1"}, "multiprocessing", 1),
    ],
)
def test_mode_and_processes_go_together(text, settings, mode, processes):
    execution = parse(MINIMAL + text, **settings).execution
    assert (execution.mode, execution.processes) == (mode, processes)


def test_settings_are_as_if_they_stood_in_the_config():
    over = parse(MINIMAL + "priority: 1", priority="-5", concurrency="3", rpm="none")
    written = parse(MINIMAL + "priority: -5\nexecution: {concurrency: 3}\nlimits: {rpm: null}")
    assert (over.priority, over.execution, over.limits) == (-5, written.execution, written.limits)
    assert over.source.has("execution.concurrency")


def test_their_problems_stand_beside_those_of_the_file():
    told = problems(parse, MINIMAL + "test_lines: -1", processes="0")
    assert len(told) == 2
    assert told[0].startswith("processes must be")
    assert told[1].startswith("config.yaml:2:13: test_lines")


def test_a_section_that_is_none_stays_the_problem():
    (told,) = problems(parse, MINIMAL + "execution: 5", concurrency="3")
    assert "execution must be a mapping" in told


def stored(text="", **settings):
    config = parse(MINIMAL + text, **settings)
    return snapshot(resolve(config, {}, {}, test_base_url="http://127.0.0.1:1/v1"), "acc")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "concurrency": st.integers(1, 65_536),
            "max_concurrency": st.integers(1, 65_536),
            "rpm": st.none() | st.integers(1, 10**9),
            "tpm": st.none() | st.integers(1, 10**9),
            "bytes_in_flight": st.integers(2**16, 2**40),
            "mode": st.sampled_from(("threading", "multiprocessing")),
            "processes": st.integers(1, 64),
            "priority": st.integers(-5, 5),
            "log_dir": st.sampled_from(("/a b", "/日志", "/1", "rel")),
            "log_level": st.sampled_from(("debug", "warning")),
        },
    )
)
def test_a_snapshot_takes_what_a_config_takes(values):
    given = {key: "null" if value is None else str(value) for key, value in values.items()}
    before = stored("limits: {rpm: 9}\nexecution: {mode: threading, processes: 2}")["config"]
    after = with_settings(before, read_settings(given))
    assert after == stored("limits: {rpm: 9}\nexecution: {mode: threading, processes: 2}", **given)["config"]
    changes = differences(before, after)
    assert {key for key, _, _ in changes} <= values.keys()
    assert all(new == values[key] != old for key, old, new in changes)
    assert with_settings(after, {key: old for key, old, _ in changes}) == before


def test_what_follows_is_a_difference_too():
    before = stored()["config"]
    after = with_settings(before, read_settings({"processes": "3"}))
    assert differences(before, after) == [
        ("processes", 1, 3),
        ("mode", "asyncio", "multiprocessing"),
    ]
    back = with_settings(after, read_settings({"mode": "asyncio"}))
    assert back == before


def test_settings_do_not_make_another_task():
    same = stored(processes="3", priority="2", concurrency="4", log_dir="/x", log_level="debug")
    assert identity(same, "/in") == identity(stored(), "/in")


def test_a_snapshot_of_an_earlier_version_gets_the_new_keys():
    new = stored("execution: {concurrency: 3}\nlimits: {rpm: 9}")
    old = new | {"config": {key: value for key, value in new["config"].items() if key != "priority"}}
    old["config"]["limits"] = {"rpm": 9, "max_concurrency": 5}
    filled = completed(old)["config"]
    assert filled["priority"] == 0
    assert filled["execution"] == new["config"]["execution"]
    assert filled["limits"] == new["config"]["limits"] | {"max_concurrency": 5}
    assert filled["model"] == new["config"]["model"]
    defaults = Config(model=Model(domain="", max_tokens=1))
    assert (defaults.execution, defaults.limits) == (Execution(), Limits())

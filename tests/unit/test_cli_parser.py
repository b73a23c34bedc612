"""The command line's grammar: shapes that are accepted, and what is said about the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.cli.options import FLAGS, VERBS
from batch_infer.cli.parser import parse
from batch_infer.cli.request import Request
from batch_infer.protocol.errors import BatchInferError, TaskIdError, UsageError


@pytest.mark.parametrize(
    "line",
    [
        "-pipeline in.jsonl -task-id A",
        "--pipeline in.jsonl --task-id A",
        "-pipeline=in.jsonl --task-id=A",
        "-task-id A -pipeline in.jsonl",
        "-pipeline -task-id A in.jsonl",
    ],
)
def test_one_and_two_dashes_and_equals_signs_say_the_same(line):
    assert parse(line.split()) == Request("pipeline", ids=("A",), input="in.jsonl")


def test_all_modifiers_arrive():
    line = "-pipeline i -task-id A -config c.yaml -follow -workspace w -json"
    request = parse(line.split())
    assert request == Request(
        "pipeline", ids=("A",), input="i", config="c.yaml", workspace="w", follow=True, as_json=True
    )


@pytest.mark.parametrize("line", ["-cancel A B C -json", "-cancel A -json B C", "-json -cancel=A B C"])
def test_cancel_takes_several(line):
    assert parse(line.split()) == Request("cancel", ids=("A", "B", "C"), as_json=True)


@pytest.mark.parametrize("verb", ["monitor", "status"])
def test_an_optional_id(verb):
    assert parse([f"-{verb}"]) == Request(verb)
    assert parse([f"-{verb}", "A"]) == Request(verb, ids=("A",))
    assert parse([f"-{verb}", "-json", "A"]) == Request(verb, ids=("A",), as_json=True)
    assert parse([f"-{verb}", "-json"]) == Request(verb, as_json=True)


def test_an_id_may_look_like_anything_after_an_equals_sign():
    assert parse(["-status=-odd"]).ids == ("-odd",)
    assert parse(["-status", "任务=1"]).ids == ("任务=1",)


@pytest.mark.parametrize(
    "line", ["-h", "-help", "--help", "-list -h", "-pipeline -help", "-list -status -help"]
)
def test_help_wins(line):
    assert parse(line.split()).verb == "help"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-pipeline x", "task-id must not be empty"),
        ("-pipeline x -task-id", "task-id must not be empty"),
        ("-pipeline x -task-id=", "task-id must not be empty"),
        ("-pipeline x -task-id -follow", "task-id must not be empty"),
        ("-cancel", "task-id must not be empty"),
        ("-pause -json", "task-id must not be empty"),
        ("-resume", "task-id must not be empty"),
        ("-retry", "task-id must not be empty"),
        ("-logs", "task-id must not be empty"),
    ],
)
def test_a_missing_task_id_has_one_message(line, said):
    with pytest.raises(TaskIdError) as caught:
        parse(line.split())
    assert str(caught.value.text) == said
    assert caught.value.exit_code == 2
    assert caught.value.text.render("zh") == "task-id 参数不能为空"


@pytest.mark.parametrize(
    ("line", "said", "hinted"),
    [
        ("-lits", "there is no option -lits", "did you mean -list?"),
        ("-task_id A", "there is no option -task_id", "did you mean -task-id?"),
        ("--taskid=A", "there is no option --taskid", "did you mean -task-id?"),
        ("-mon", "there is no option -mon", "did you mean -monitor?"),
        ("-halp", "there is no option -halp", "did you mean -help?"),
        ("-zzz x", "there is no option -zzz", "batch_infer -help shows all options"),
        ("-f", "there is no option -f", "batch_infer -help shows all options"),
        ("---list", "there is no option ---list", "did you mean -list?"),
        ("in.jsonl", "nothing says what to do with 'in.jsonl'", "-pipeline FILE -task-id ID"),
        ("monitor A", "nothing says what to do with 'monitor'", "did you mean -monitor?"),
        ("-task-id A", "-task-id needs a command", "-pipeline FILE"),
        ("-list -cancel A", "-list and -cancel do not go together", "-help"),
        ("-list -wait", "-wait and -list do not go together", "-wait goes with -pipeline, -retry"),
        ("-monitor -task-id A", "-task-id and -monitor do not go together", "batch_infer -monitor [ID]"),
        ("-pipeline i -task-id A -wait -follow", "-wait and -follow do not go together", "-help"),
        ("-pipeline a b -task-id A", "unexpected argument 'b'", "-help"),
        ("-list A", "unexpected argument 'A'", "-help"),
        ("-list -json=yes", "-json takes no value", None),
        ("-pipeline a -pipeline b -task-id A", "-pipeline is given twice", None),
        ("-list -workspace", "-workspace needs a value: -workspace DIR", None),
        ("-daemon", "-daemon needs a value", "start|run|stop|status"),
        ("-daemon stpo", "-daemon knows no 'stpo'", "did you mean -daemon stop?"),
        ("slow1", "nothing says what to do with 'slow1'", "batch_infer -monitor slow1"),
        ("-completion cmd", "-completion knows no 'cmd'", "bash|zsh|fish"),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(line, said, hinted):
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert said in str(caught.value.text)
    assert caught.value.exit_code == 2
    hints = " / ".join(map(str, caught.value.hints))
    assert hinted is None or hinted in hints


def test_a_hint_is_given_once():
    with pytest.raises(UsageError) as caught:
        parse(["-completion", "powershell"])
    assert len(caught.value.hints) == 1


def test_words_after_two_dashes_are_words():
    assert parse(["-status", "--", "-odd"]).ids == ("-odd",)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [f"-{flag.name}" for flag in FLAGS] + ["--", "-", "-h", "A", "start", "=", "-x="]
            ),
            st.text(max_size=6),
        ),
        max_size=6,
    )
)
def test_any_words_give_a_request_or_an_error_of_ours(arguments):
    try:
        outcome = parse(arguments)
    except BatchInferError as error:
        outcome = error
    if isinstance(outcome, BatchInferError):
        assert outcome.exit_code == 2
        assert str(outcome.text)
    else:
        assert outcome.verb in VERBS

"""The section `input` of a config, the flags that win over it, and what the client sends of an input."""

import hashlib
import io
import json
import stat

import pytest

from batch_infer.cli.parser import parse
from batch_infer.cli.piped import discard, take
from batch_infer.cli.sources import overrides_params
from batch_infer.protocol.errors import ConfigError, InputError, UsageError
from batch_infer.protocol.workspace import Workspace
from batch_inferd.config.load import parse_config
from batch_inferd.config.variables import S3_VARIABLES, variables
from batch_inferd.intake.shapes import shape_of
from batch_inferd.tasks.folder import make_data_folders

BASE = "model: {domain: test, password: none, max_tokens: 16}\n"


def config(text, overrides=None):
    return parse_config((BASE + text).encode(), "config.yaml", None, overrides)


def problems(text, overrides=None):
    with pytest.raises(ConfigError) as caught:
        config(text, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_the_section():
    found = config(
        "input:\n  prompt: |\n    one\n    two {a}\n  delimiter: tab\n  topics: [x, 2]\n  patterns: '*.png'\n"
        "  encoding: GB18030\n  s3: {endpoint: 'http://h', secret_access_key: 'hunter2'}\n"
    ).input
    assert found.prompt == "one\ntwo {a}\n"
    assert (found.delimiter, found.topics, found.patterns) == ("\t", ["x", "2"], ["*.png"])
    assert (found.encoding, found.s3.endpoint) == ("GB18030", "http://h")
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input: {prompt: [a]}", "input.prompt must be a text, found a list"),
        ("input: {topics: {a: b}}", "input.topics must be a list, found a mapping"),
        ("input: {topics: [a, null]}", "input.topics has an empty item"),
        ("input: {delimiter: ab}", "input.delimiter must be one character, or tab"),
        ("input: {delimiter: '\"'}", "input.delimiter must be one character, or tab"),
        ("input: {encoding: base64}", "input.encoding must be an encoding"),
        ("input: {encoding: klingon}", "input.encoding must be an encoding"),
        ("input: {start_row: 5, end_row: 5}", "no row lies between start_row 5 and end_row 5"),
        ("input: {topics: [a], topics_file: f}", "topics and topics_file do not go together"),
        ("input: {s3: {secret_access_key: '${'}}", "without a name"),
    ],
)
def test_what_is_wrong_is_told(text, said):
    (problem,) = problems(text)
    assert said in problem
    assert problem.startswith("config.yaml:2:")


def test_overrides_win_and_are_checked_without_a_place():
    text = "input: {start_row: 3, prompt: old, topics: [a]}\nlines_per_chunk: 5"
    given = {"input.start_row": "7", "input.prompt": "123", "input.topics": ["null", "b"], "model.name": "m"}
    found = config(text, given | {"lines_per_chunk": "9"})
    assert (found.input.start_row, found.input.prompt, found.input.topics) == (7, "123", ["null", "b"])
    assert (found.model.name, found.lines_per_chunk) == ("m", 9)
    assert config("", {"input.end_row": "4"}).input.end_row == 4
    assert problems("", {"input.start_row": "x", "model.password": "p"}) == [
        'input.start_row must be a whole number, found the string "x"; write a number such as 0',
        "model.password cannot be set on the command line",
    ]


def test_variables_of_object_storage_only_where_it_may_be_meant():
    plain = config("input: {s3: {secret_access_key: '${OWN}'}}")
    assert variables(plain) == ["OWN", *S3_VARIABLES]
    assert variables(config("")) == []
    assert variables(config("images: {}")) == list(S3_VARIABLES)
    assert variables(config(""), storage=True) == list(S3_VARIABLES)


def test_flags_become_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = parse(
        [
            "-pipeline",
            "-task-id",
            "A",
            "-topic",
            "x",
            "y",
            "-iterations",
            "2",
            "-images",
            "pics",
            "-done",
            "o",
        ]
    )
    assert request.input == "topics"
    assert overrides_params(request.overrides) == {
        "overrides": {
            "input.topics": ["x", "y"],
            "input.iterations": "2",
            "input.image_folder": str(tmp_path / "pics"),
            "input.done": str(tmp_path / "o"),
        }
    }
    assert overrides_params(parse(["-pipeline", "in", "-task-id", "A"]).overrides) == {}
    prepared = parse(["-prepare", "-", "-out", "f", "-shape", "plain", "-model", "m"])
    assert (prepared.input, prepared.out, prepared.shape) == ("-", "f", "plain")
    with pytest.raises(UsageError):
        parse(["-list", "-start-row", "3"])
    with pytest.raises(UsageError):
        parse(["-pipeline", "in", "-task-id", "A", "-prompt"])


def test_a_pipe_is_kept_for_its_owner_only(tmp_path):
    workspace = Workspace(tmp_path)
    piped = take(workspace, io.BytesIO(b"x" * 3_000_000))
    assert piped.digest == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert piped.path.parent == workspace.chunks
    assert stat.S_IMODE(piped.path.stat().st_mode) == 0o600
    make_data_folders(workspace)
    assert piped.path.exists(), "its client may not have submitted it yet"
    discard(piped)
    assert not piped.path.exists()
    discard(piped)


def test_a_pipe_that_breaks_leaves_nothing(tmp_path):
    class Broken(io.BytesIO):
        def read(self, _size=-1):
            raise OSError(5, "broken")

    with pytest.raises(InputError, match="cannot be kept"):
        take(Workspace(tmp_path), Broken())
    assert list((tmp_path / "chunks").iterdir()) == []


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("claude-3-haiku-20240307", "bedrock"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "bedrock"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "bedrock"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-x", "bedrock"),
        ("gpt-4o-mini", "openai"),
        ("not-claude-like", "openai"),
        ("", "openai"),
    ],
)
def test_the_shape_that_a_model_wants(model, shape):
    assert shape_of(model) == shape


def test_claudes_messages():
    from batch_inferd.images.plan import ImagePlan
    from batch_inferd.intake.shapes import Bedrock, RecordError

    shape = Bedrock("messages", {"max_tokens": 5}, ImagePlan())
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "T"}, image]},
        {"role": "assistant", "content": "A"},
    ]
    line = json.dumps({"custom_id": "你", "messages": messages, "$source": {"row": 1}}).encode()
    assert json.loads(shape(line, 1)) == {
        "recordId": "你",
        "modelInput": {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 5,
            "system": "S",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
                        },
                        {"type": "text", "text": "T"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
            ],
        },
    }
    web = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]}]
    for wrong, said in (
        ({"custom_id": "a", "messages": web}, "images.fetch_urls"),
        ({"custom_id": "a"}, "missing"),
        ({"custom_id": "a", "$error": {"class": "image_missing", "message": "row 3"}}, "row 3"),
        ({"custom_id": "a", "messages": [{"role": "user", "content": [{"type": "video"}]}]}, "video"),
        ({"custom_id": "a", "messages": ["x"]}, "no object"),
        ({"custom_id": "a", "messages": [{"role": "system", "content": [image]}]}, "system"),
    ):
        with pytest.raises(RecordError, match=said):
            shape(json.dumps(wrong).encode(), 1)

"""What a submit says about an input that is no JSON Lines."""

import pytest

from batch_inferd.intake.source import HEAD, input_warning

OBJECT = b'{"messages": []}\n'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (OBJECT, None),
        (b"\xef\xbb\xbf" + OBJECT, None),
        (b"not json\n\n" + OBJECT, None),
        (OBJECT.rstrip(), None),
        (b"", "the input is empty"),
        (b"\xef\xbb\xbf \r\n\n", "the input is empty"),
        (b"id,text\n1,a\n2,b\n", "none of the first 3 lines is a JSON object (a CSV?)"),
        (b"id,text\n" * 500, "none of the first 100 lines is a JSON object (a CSV?)"),
        (b'"text"\n7', "none of the first 2 lines is a JSON object (a CSV?)"),
        (b"id,text", "the first line of the input is no JSON object (a CSV?)"),
        (b"x\n" * 100 + OBJECT, "none of the first 100 lines is a JSON object (a CSV?)"),
        (b"\n" * HEAD + OBJECT, None),  # more than is looked at
        (b'{"messages": ["' + b"x" * HEAD + b'"]}\n', None),  # a line that is cut says nothing
        (b" \n[" + OBJECT, "the input begins with '['"),
        ("{}\n".encode("utf-16"), "the input looks like UTF-16"),
        (b"\x1f\x8b\x08\x00", "the input looks like gzip"),
        (b"PK\x03\x04", "the input looks like zip"),
    ],
)
def test_the_beginning_of_an_input(tmp_path, data, said):
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    warning = input_warning(str(path))
    if said is None:
        assert warning is None
    else:
        assert str(warning).startswith(said)

"""The public names: all are there, quick to import, and lazily."""

import subprocess
import sys

import pytest

import batch_infer


def test_every_public_name_is_there():
    for name in batch_infer.__all__:
        assert getattr(batch_infer, name).__doc__
        assert name in dir(batch_infer)
    assert sorted({*batch_infer._HOMES, "__version__"}) == sorted(batch_infer.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = batch_infer.nothing


def modules(code):
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_loads_next_to_nothing():
    before = modules("")
    new = {name.partition(".")[0] for name in modules("import batch_infer") - before}
    assert new <= {"batch_infer", "__future__", "importlib", "typing", "collections", "functools", "operator",
                   "keyword", "reprlib", "types", "contextlib", "warnings", "re", "enum", "copyreg", "abc",
                   "_collections", "_functools", "_operator", "_typing", "_sre", "itertools"}  # fmt: skip


def test_the_whole_api_imports_nothing_of_the_daemon():
    names = "; ".join(f"batch_infer.{name}" for name in batch_infer.__all__)
    loaded = modules(f"import batch_infer; {names}")
    assert "batch_infer.manager" in loaded
    assert not [name for name in loaded if name.partition(".")[0] in ("batch_inferd", "msgspec", "yaml")]

"""Whether the library that writes Parquet is there. Imports nothing of it: a config is checked by this."""

from __future__ import annotations

from importlib.util import find_spec

from batch_infer.protocol.text import Text


def missing_pyarrow() -> Text | None:
    """What to say where pyarrow is not installed."""
    if find_spec("pyarrow") is not None:
        return None
    return Text("Parquet needs pyarrow; install it with: pip install 'batch_infer[parquet]'")

"""bespokelabs-curator, as its documentation has it for many requests to a compatible service.

Its limits are set so high that they never hold a request back. Token encoding is stubbed: tiktoken would
download its tables; the stub costs curator nothing. No telemetry, no viewer, no display; caches in `folder`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import records
from loop import options, tell

if TYPE_CHECKING:
    from collections.abc import Iterator


class Encoding:
    """Counts a token for every four characters."""

    def encode(self, text: str, **_: object) -> range:
        return range(len(text) // 4)


def main() -> None:
    asked = options()
    folder = Path(asked["folder"])
    os.environ |= {
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "CURATOR_CACHE_DIR": str(folder / "curator"),
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "TELEMETRY_ENABLED": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    import tiktoken

    tiktoken.get_encoding = lambda _: Encoding()
    from bespokelabs import curator
    from datasets import Dataset

    class Answers(curator.LLM):
        def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
            return row["messages"]

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            return {"n": row["n"], "answer": response}

    def rows() -> Iterator[dict[str, Any]]:
        for n in range(asked["records"]):
            yield {"n": n, "messages": records.message(n, asked["body_bytes"])}

    model = Answers(
        model_name=records.MODEL,
        backend="openai",
        generation_params={"max_tokens": records.MAX_TOKENS},
        backend_params={
            "base_url": asked["base_url"],
            "api_key": "x",
            "max_requests_per_minute": 10**9,
            "max_tokens_per_minute": 10**13,
            "max_concurrent_requests": asked["concurrency"],
        },
    )
    dataset = Dataset.from_generator(rows, cache_dir=str(folder / "hf"))
    start = time.perf_counter()
    found = model(dataset).dataset
    seconds = time.perf_counter() - start
    if len(found) != asked["records"]:
        raise SystemExit(f"{len(found)} answers of {asked['records']}")
    tell(len(found), seconds)


main()

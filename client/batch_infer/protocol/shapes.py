"""The shapes of a prepared file: for OpenAI's Batch API, for Bedrock's, or plain as a task's own input."""

from __future__ import annotations

SHAPES = ("openai", "bedrock", "plain")
AUTO = "auto"  # in a request: what the model wants

"""What an answer is billed for, and what of that it tells: both as the controls want it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from batch_inferd.testing.spoiling import spoiled

if TYPE_CHECKING:
    from batch_inferd.testing.calls import Call
    from batch_inferd.testing.controls import Controls

_Tokens = Annotated[float, msgspec.Meta(ge=0)]
_DICE = 2**32


class Tokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another rule by which tokens are counted: so many a character, and so many a message.

    `answer` multiplies what an answer's text has: a model that thinks before it speaks bills for that.
    """

    ascii: _Tokens = 0.25
    other: _Tokens = 1.0
    message: _Tokens = 4.0
    answer: _Tokens = 1.0

    def count(self, text: str) -> float:
        """The tokens of a text."""
        plain = len(text.encode("ascii", "ignore"))
        return plain * self.ascii + (len(text) - plain) * self.other


def billed(answer: dict[str, Any], call: Call, controls: Controls) -> dict[str, Any]:
    """The answer, spoiled if the controls want that, with the usage that it is billed for."""
    answer = spoiled(answer, call, controls.spoil)
    usage = dict(answer["usage"])
    rule = controls.tokenizer
    if rule is not None:
        usage["prompt_tokens"] = round(sum(rule.message + rule.count(text) for text in call.texts))
        if "completion_tokens" in usage:
            content = answer["choices"][0]["message"]["content"]
            usage["completion_tokens"] = round(rule.answer * rule.count(content))
        usage["total_tokens"] = usage["prompt_tokens"] + usage.get("completion_tokens", 0)
    if controls.cached_share:
        cached = int(usage["prompt_tokens"] * controls.cached_share)
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return {**answer, "usage": usage}


def told(answer: dict[str, Any], call: Call, controls: Controls) -> dict[str, Any]:
    """The answer as it goes out: some do not tell their usage, always the same ones."""
    if int(call.digest[:8], 16) >= controls.no_usage_rate * _DICE:
        return answer
    return {key: value for key, value in answer.items() if key != "usage"}

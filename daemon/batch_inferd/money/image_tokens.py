"""How many tokens an image has: which model counts by which rule. The rules are in `image_rules`.

The name of a model tells its rule, whoever serves it: gateways put a maker in front ("openai/gpt-4o"), and
an Azure deployment is often called like its model. Gathered in November 2026.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from batch_inferd.money.image_rules import Budget, Crops, Fixed, Grid, Merged, Patches, Tiles

if TYPE_CHECKING:
    from batch_inferd.money.image_rules import Rule

GUESS = 765  # of a model without a rule: 1024 x 1024 in four of OpenAI's tiles; most rules come to about this
GUESS_MOST = 16_386  # and its upper bound: what open models take at most of an image by themselves

_SIDE, _SIDE_FULL, _SIDE_ANY = 2048, 6000, 65_535
_PATCHES = Budget(1536, _SIDE)
_CLAUDE, _CLAUDE_FINE = Grid(28, Budget(1568, 1568)), Grid(28, Budget(4784, 2576))
_GLM = Merged(28, least=8, usual=6144, limit=6144)

# Tried in order on the name behind its last slash, in lower case.
_NAMED: tuple[tuple[str, Rule], ...] = (
    (r"gpt-4o-mini", Tiles(2833, 5667)),
    (r"gpt-4\.1-mini", Patches(1.62, _PATCHES)),
    (r"gpt-4\.1-nano", Patches(2.46, _PATCHES)),
    (r"gpt-4o|gpt-4\.1|gpt-4\.5|gpt-4-turbo|gpt-4-vision|gpt-4-1106-vision", Tiles(85, 170)),
    (r"\bo4-mini", Patches(1.72, _PATCHES)),
    (r"\bo[13]\b", Tiles(75, 150)),
    (r"computer-use-preview", Tiles(65, 129)),
    (r"glm-(ocr|\d[\d.]*v)", _GLM),
)
_GPT = re.compile(r"\bgpt-(\d+)(?:\.(\d+))?\b")
_CLAUDE_NAME = re.compile(r"\bclaude-(?:([a-z]+)-)?(\d+)(?:[.-](\d{1,2}))?(?!\d)")
_GEMINI = re.compile(r"\bgemini-(\d+)")
_QWEN = re.compile(r"\b(?:qwen\d?(?:\.\d)?-?)?(?:vl|qvq|omni)\b|\bqvq\b|\bqwen3\.[5-9]|\bqwen[4-9]")
_QWEN_28 = re.compile(r"qwen2|qvq|qwen-vl-(?:max|plus)-(?:2024|2025-0[1-6])|qwen-vl-ocr|qwen-omni")


def tokens(model: str, width: int, height: int, *, detail: str = "", service: str = "") -> int:
    """Tokens of an image of a known size, in pixels; GUESS where the model's rule is not known.

    `detail` is what the request says of the image ("low", "high", "original", "auto", or nothing), `service`
    the name of the profile that serves the model.
    """
    rule = rule_of(model, service)
    return GUESS if rule is None else rule.tokens(max(1, width), max(1, height), detail)


def most_tokens(model: str) -> int:
    """The most tokens that any one image has with this model, at any detail and whoever serves it."""
    rule = rule_of(model)
    return GUESS_MOST if rule is None else rule.most()


@lru_cache(256)
def rule_of(model: str, service: str = "") -> Rule | None:
    """The rule by which a model counts; None where none is known."""
    name = model.lower().rpartition("/")[2]
    for pattern, rule in _NAMED:
        if re.search(pattern, name):
            return rule
    for found in (_gpt(name), _claude(name), _gemini(name), _qwen(name, service)):
        if found is not None:
            return found
    return None


def _gpt(name: str) -> Rule | None:
    """GPT-5 and later."""
    match = _GPT.search(name)
    if match is None or int(match[1]) < 5:
        return None
    version = int(match[1]), int(match[2] or 0)
    small = "-mini" in name or "-nano" in name
    if version < (5, 2) and not small:
        return Tiles(70, 140)
    each = 2.46 if "-nano" in name else 1.62 if "-mini" in name else 1.2
    if version < (5, 4) or (small and version < (5, 5)):
        return Patches(each, _PATCHES)
    if version < (5, 6):
        return Patches(each, Budget(2500, _SIDE), Budget(10_000, _SIDE_FULL), auto_full=version > (5, 4))
    # More than 30,000 patches are refused.
    return Patches(each, Budget(2500, _SIDE_ANY), Budget(30_000, _SIDE_ANY), auto_full=True)


def _claude(name: str) -> Rule | None:
    """Claude: from 4.7 on with a larger budget. `claude-3-5-sonnet` has its version in front."""
    if "claude" not in name:
        return None
    match = _CLAUDE_NAME.search(name)
    if match is None:
        return _CLAUDE_FINE
    return _CLAUDE if (int(match[2]), int(match[3] or 0)) < (4, 7) else _CLAUDE_FINE


def _gemini(name: str) -> Rule | None:
    """Gemini: tiles up to 2.5; later ones a fixed number, which "media_resolution" may raise."""
    match = _GEMINI.search(name)
    if match is None:
        return None
    return Crops() if int(match[1]) < 3 else Fixed(1120, 2240)


def _qwen(name: str, service: str) -> Rule | None:
    """Qwen's models with eyes. DashScope takes fewer tokens of an image than a server of one's own."""
    if _QWEN.search(name) is None or ("qwen" not in name and "qvq" not in name):
        return None
    if _QWEN_28.search(name):
        return Merged(28, least=4, usual=1280 if service == "dashscope" else 16_384, limit=16_384)
    return Merged(32, least=4, usual=2560 if service == "dashscope" else 16_384, limit=16_384)

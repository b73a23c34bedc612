"""How services count an image: the arithmetic, as they publish it. Sides are pixels, results tokens.

A rule's `tokens` is never more than its `most`, whatever the image. `detail` is the request's own word
for an image: "low", "high", "original", "auto"; empty where it has none.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

_PATCH = 32  # pixels, of OpenAI's newer models


class Rule(Protocol):
    """How the tokens of an image follow from its size."""

    def tokens(self, width: int, height: int, detail: str = "") -> int:
        """Of an image of this size, both sides at least 1."""

    def most(self) -> int:
        """Of any image, at any detail."""


class Tiles(NamedTuple):
    """Squares of 512 pixels and a base, in an image that is scaled down to 2048 x 768 at most.

    https://developers.openai.com/api/docs/guides/images-vision, "Tile-based image tokenization".
    """

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: str = "") -> int:
        """See Rule. A small image is not scaled up."""
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        return self.base + self.tile * _cells(width * scale, 512) * _cells(height * scale, 512)

    def most(self) -> int:
        """See Rule."""
        return self.base + self.tile * 4 * 2


class Budget(NamedTuple):
    """Most patches of an image, and pixels of its longer side; a larger one is scaled down."""

    patches: int
    side: int


class Patches(NamedTuple):
    """Squares of 32 pixels, each of some tokens; `high` is what "high" allows, `full` what "original" does.

    The same page, "Patch-based image tokenization". `auto` takes "original" with newer models.
    """

    multiplier: float
    high: Budget
    full: Budget | None = None  # None: no such detail
    auto_full: bool = False

    def tokens(self, width: int, height: int, detail: str = "") -> int:
        """See Rule."""
        if detail == "low":
            budget = Budget(256, 512)
        elif self.full is not None and (detail == "original" or (self.auto_full and detail != "high")):
            budget = self.full
        else:
            budget = self.high
        return math.ceil(self.multiplier * _patches(width, height, budget))

    def most(self) -> int:
        """See Rule."""
        return math.ceil(self.multiplier * (self.full or self.high).patches)


class Grid(NamedTuple):
    """Squares of `cell` pixels, a token each, in the largest size of the image within its budget: Claude.

    https://platform.claude.com/docs/en/build-with-claude/vision; its older "width x height / 750" comes to
    about the same.
    """

    cell: int
    budget: Budget

    def tokens(self, width: int, height: int, detail: str = "") -> int:  # noqa: ARG002  it has no details
        """See Rule."""
        longer, shorter = max(width, height), min(width, height)
        fits, too_long = 1, min(longer, self.budget.side) + 1
        while too_long - fits > 1:
            side = (fits + too_long) // 2
            if self._count(side, shorter * side / longer) <= self.budget.patches:
                fits = side
            else:
                too_long = side
        return self._count(fits, shorter * fits / longer)

    def _count(self, longer: int, shorter: float) -> int:
        return _cells(longer, self.cell) * _cells(shorter, self.cell)

    def most(self) -> int:
        """See Rule."""
        return self.budget.patches


class Merged(NamedTuple):
    """Sides rounded to multiples of `cell`, a token each square, and `more` around them: Qwen-VL, GLM-V.

    `usual` is the most that the service takes of an image by itself, `limit` what a request, or a server of
    one's own, may raise that to. https://help.aliyun.com/zh/model-studio/vision ("image tokens"), and
    `smart_resize` of the models' own processors, such as transformers' image_processing_glm4v.py.
    """

    cell: int
    least: int
    usual: int
    limit: int
    more: int = 2

    def tokens(self, width: int, height: int, detail: str = "") -> int:  # noqa: ARG002  as above
        """See Rule."""
        area = self.cell * self.cell
        wide, high = (max(1, round(side / self.cell)) for side in (width, height))
        if wide * high > self.usual:
            scale = math.sqrt(self.usual * area / (width * height))
            wide, high = (max(1, int(side * scale / self.cell)) for side in (width, height))
        elif wide * high < self.least:
            scale = math.sqrt(self.least * area / (width * height))
            wide, high = (_cells(side * scale, self.cell) for side in (width, height))
        return min(self.usual, wide * high) + self.more

    def most(self) -> int:
        """See Rule."""
        return self.limit + self.more


class Crops(NamedTuple):
    """One price for a small image, and for each tile of a larger one: Gemini up to 2.5.

    https://ai.google.dev/gemini-api/docs/tokens. A tile's side is two thirds of the shorter side. Nothing is
    published of panoramas: no more than `tiles` are taken to be counted.
    """

    tile: int = 258
    small: int = 384
    tiles: int = 16

    def tokens(self, width: int, height: int, detail: str = "") -> int:  # noqa: ARG002  as above
        """See Rule."""
        if max(width, height) <= self.small:
            return self.tile
        side = min(768, max(256, int(min(width, height) / 1.5)))
        return self.tile * min(self.tiles, _cells(width, side) * _cells(height, side))

    def most(self) -> int:
        """See Rule."""
        return self.tile * self.tiles


class Fixed(NamedTuple):
    """The same for each image: Gemini 3 and later, https://ai.google.dev/gemini-api/docs/media-resolution."""

    usual: int
    limit: int

    def tokens(self, width: int, height: int, detail: str = "") -> int:  # noqa: ARG002  as above
        """See Rule."""
        return self.usual

    def most(self) -> int:
        """See Rule."""
        return self.limit


def _patches(width: int, height: int, budget: Budget) -> int:
    """The squares that cover an image, once it is scaled down to its budget."""
    if max(width, height) > budget.side:
        scale = budget.side / max(width, height)
        width, height = max(1, int(width * scale)), max(1, int(height * scale))
    count = _cells(width, _PATCH) * _cells(height, _PATCH)
    if count <= budget.patches:
        return count
    scale = math.sqrt(_PATCH * _PATCH * budget.patches / (width * height))
    across, down = width * scale / _PATCH, height * scale / _PATCH
    if min(across, down) >= 1:  # so that whole squares fit
        scale *= min(int(across) / across, int(down) / down)
    count = _cells(int(width * scale), _PATCH) * _cells(int(height * scale), _PATCH)
    return min(budget.patches, count)


def _cells(side: float, cell: int) -> int:
    return max(1, math.ceil(side / cell))

"""What the images of an input weigh: by their size where that can be seen, else as those that were seen."""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache

from batch_infer.protocol.text import Text
from batch_inferd.images.dimensions import dimensions_of
from batch_inferd.images.errors import ImageError
from batch_inferd.images.load import size_of
from batch_inferd.images.plan import ImagePlan
from batch_inferd.images.refs import scheme_of
from batch_inferd.money.image_tokens import GUESS, rule_of, tokens

_LOOKS = 2_000  # images whose size is looked at
_SECONDS = 15.0  # and how long
_SIDE = 1024  # pixels, of an image while none was seen
_REMEMBERED = 10_000


class ImageView:
    """Tells the tokens of one image after the other. Blocks; use it in one thread.

    `plan` is None where references go to the service as they are: then only those are looked at that hold
    their image themselves.
    """

    def __init__(self, model: str, service: str, plan: ImagePlan | None) -> None:
        """`service` is the name of the profile that serves the model."""
        self._model = model
        self._service = service
        self._plan = plan
        self._looks = _LOOKS
        self._end: float | None = None
        self._seen = self._unseen = 0
        self._total = 0.0  # tokens of those that were seen
        self._files = self._bytes = 0  # files among them, and what they have as base64
        self._found = lru_cache(_REMEMBERED)(self._look)

    def __call__(self, ref: str, detail: str) -> float:
        """The tokens of an image, by its reference and the detail that the request asks for."""
        size, in_bytes = self._found(ref) if len(ref) < _REMEMBERED else self._look(ref)
        self._files += in_bytes > 0
        self._bytes += in_bytes
        if size is None:
            self._unseen += 1
            return self._total / self._seen if self._seen else self._count((_SIDE, _SIDE), detail)
        found = self._count(size, detail)
        self._seen += 1
        self._total += found
        return found

    def _count(self, size: tuple[int, int], detail: str) -> int:
        return tokens(self._model, *size, detail=detail, service=self._service)

    @property
    def bytes_each(self) -> float:
        """Bytes that an image adds to its request, as far as files were seen."""
        return self._bytes / self._files if self._files else 0.0

    def _look(self, ref: str) -> tuple[tuple[int, int] | None, int]:
        """Pixels, where they can be seen, and of a file the bytes that it has as base64."""
        if scheme_of(ref) == "data":
            return dimensions_of(ref, self._plan or ImagePlan()), 0
        if self._plan is None or not self._looks:
            return None, 0
        now = time.monotonic()
        self._end = now + _SECONDS if self._end is None else self._end
        if now > self._end:
            return None, 0
        self._looks -= 1
        found = dimensions_of(ref, self._plan)
        if found is None or scheme_of(ref) != "file":
            return found, 0
        with contextlib.suppress(ImageError):
            return found, size_of(ref, self._plan) * 4 // 3
        return found, 0

    def note(self) -> Text:
        """What is to be known of the tokens that it told."""
        if rule_of(self._model, self._service) is None:
            return Text(
                "no rule is known by which {model} counts images: each is taken for {n} tokens",
                {"model": self._model, "n": GUESS},
            )
        if not self._seen:
            return Text(
                "how large the images are is not known here: each is taken for one of {n} x {n} pixels",
                {"n": _SIDE},
            )
        if self._unseen:
            return Text(
                "tokens of images follow from the size of {n} of them, and the rule of the model's maker",
                {"n": f"{self._seen:,}"},
            )
        return Text("tokens of images follow from their sizes, and the rule of the model's maker")

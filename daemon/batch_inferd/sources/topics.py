"""Topics: each becomes a record for each iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources.row import BadRow, Row, conversation
from batch_inferd.sources.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.sources.stream import Place

_NAMES = ("topic",)


class TopicsReader:
    """A list of topics under one prompt, which asks for `{topic}`; without one the topic is the prompt."""

    def __init__(self, spec: SourceSpec) -> None:
        """Raises InputError without topics, or for a template that asks for more."""
        if not spec.topics:
            raise InputError(
                Text("there are no topics"), hints=(Text("set input.topics, or give -topic with some"),)
            )
        self._topics = spec.topics
        where = Text("a topic")
        self._prompt = Template(spec.prompt or "{topic}", "prompt")
        self._system = Template(spec.system, "system") if spec.system else None
        for template in (self._prompt, self._system):
            if template:
                template.check(_NAMES, where)

    def pin(self) -> dict[str, Any]:
        """Nothing: the topics stand in the spec."""
        return {}

    def count(self) -> int:
        """The number of topics."""
        return len(self._topics)

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:  # noqa: ARG002  topics have no places
        """See `Reader.rows`."""
        for index in range(first, len(self._topics)):
            topic = self._topics[index]
            texts = {"topic": topic}
            source = {"row": index, "topic": topic}
            system = self._system.render(texts) if self._system else None
            try:
                messages = conversation(system, self._prompt.render(texts), [])
            except BadRow as bad:
                yield Row(index, topic, source, error=(bad.cls, f"topic {index}: {bad}"))
            else:
                yield Row(index, topic, source, messages=messages)

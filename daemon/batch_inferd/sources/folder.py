"""A folder of images: every file below it whose name fits, in the order of the paths."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources.files import unreadable
from batch_inferd.sources.row import BadRow, Row, conversation
from batch_inferd.sources.spec import IMAGE_PATTERNS
from batch_inferd.sources.template import Template
from batch_inferd.sources.text import is_marked, unmarked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.sources.stream import Place

NAMES = ("path", "name", "stem")  # what a template may ask of a file


class FilePrompt:
    """The request about one image file, for folders and buckets."""

    def __init__(self, spec: SourceSpec, where: str) -> None:
        """Raises InputError without a prompt, or for a column that files do not have."""
        if not spec.prompt:
            raise InputError(
                Text("nothing says what to ask about the images of {where}", {"where": where}),
                hints=(Text("set input.prompt or -prompt"),),
            )
        self._prompt = Template(spec.prompt, "prompt")
        self._system = Template(spec.system, "system") if spec.system else None
        for template in (self._prompt, self._system):
            if template:
                template.check(NAMES, where)
        self._patterns = [pattern.lower() for pattern in spec.pattern or IMAGE_PATTERNS]

    def wants(self, name: str) -> bool:
        """Whether a file of that name is taken. Hidden ones never are."""
        name = name.lower()
        return not name.startswith(".") and any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def none_found(self, where: str) -> InputError:
        """The error for a folder or prefix without a fitting file."""
        return InputError(
            Text(
                "{where} holds no file that fits {patterns}",
                {"where": where, "patterns": " ".join(self._patterns)},
            ),
            hints=(Text("check the path, or set input.patterns"),),
        )

    def row(self, index: int, path: str, reference: str) -> Row:
        """`path` is relative, with slashes. What is no text in it is percent-encoded in `raw` and the id."""
        custom_id = path
        source = {"row": index, "path": unmarked(path)}
        if is_marked(path):
            source["raw"] = quote(os.fsencode(path), safe="/")
            custom_id = "".join(quote(os.fsencode(mark)) if is_marked(mark) else mark for mark in path)
            path = unmarked(path)
        name = path.rpartition("/")[2]
        texts = {"path": path, "name": name, "stem": os.path.splitext(name)[0]}
        system = self._system.render(texts) if self._system else None
        try:
            messages = conversation(system, self._prompt.render(texts), [reference])
        except BadRow as bad:
            return Row(index, custom_id, source, error=(bad.cls, f"{path}: {bad}"))
        return Row(index, custom_id, source, messages=messages)


class FolderReader:
    """The images of a folder and the folders in it. Links to folders are not followed."""

    def __init__(self, spec: SourceSpec) -> None:
        """Raises InputError when there is no such folder, or it may not be read."""
        self._path = spec.path
        self._prompt = FilePrompt(spec, spec.path)
        try:
            os.scandir(spec.path).close()
        except OSError as error:
            raise unreadable(spec.path, error) from error

    def pin(self) -> dict[str, Any]:
        """Path, device and inode: what is in it may come and go."""
        info = os.stat(self._path)
        return {"path": self._path, "device": info.st_dev, "inode": info.st_ino}

    def count(self) -> int:
        """How many files fit. Walks over all of them."""
        return sum(1 for _ in self._walk(""))

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:
        """See `Reader.rows`. Raises InputError when nothing fits, or a folder in it cannot be read."""
        index = first if place else 0
        found = False
        for path in self._walk(""):
            found = True
            if place and (path < place.path or (path == place.path and not place.inclusive)):
                continue
            if index >= first:
                yield self._prompt.row(index, path, Path(self._path, path).as_uri())
            index += 1
        if not found:
            raise self._prompt.none_found(self._path)

    def _walk(self, below: str) -> Iterator[str]:
        """Relative paths in order: of the whole path, as one would sort all of them."""
        names: list[str] = []
        try:
            with os.scandir(os.path.join(self._path, below)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith("."):
                            names.append(entry.name + "/")
                    elif self._prompt.wants(entry.name) and _is_file_or_broken(entry):
                        names.append(entry.name)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not below:
                raise unreadable(self._path, error) from error
            return  # it went away meanwhile, with all that was in it
        except OSError as error:
            raise unreadable(os.path.join(self._path, below), error) from error
        names.sort()
        for name in names:
            if name.endswith("/"):
                yield from self._walk(below + name)
            else:
                yield below + name


def _is_file_or_broken(entry: os.DirEntry[str]) -> bool:
    """A link that leads nowhere, or cannot be followed, is taken: its record says what is wrong with it."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # such as a link to itself
        if not entry.is_symlink():
            raise
        return True

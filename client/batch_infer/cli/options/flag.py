"""What an option is: a verb, or a modifier that goes with verbs; and what follows it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from batch_infer.protocol.text import Text


class Value(Enum):
    """What follows a flag."""

    NONE = "nothing"
    ONE = "one value"
    OPTIONAL = "a value or nothing"
    MANY = "one value or more"
    ANY = "values or nothing"

    @property
    def is_list(self) -> bool:
        """Whether several may follow."""
        return self in (Value.MANY, Value.ANY)

    @property
    def may_be_empty(self) -> bool:
        """Whether the flag may stand alone though it takes values."""
        return self in (Value.OPTIONAL, Value.ANY)


class Completes(Enum):
    """What a shell offers for a flag's value, where it is none of a few fixed words."""

    NOTHING = "nothing"
    FILES = "files"
    FOLDERS = "folders"
    TASKS = "task ids"


class Takes(NamedTuple):
    """What a flag takes, as a person, the parser and a shell's completion have to know it."""

    value: Value = Value.NONE
    metavar: str = ""
    completes: Completes = Completes.NOTHING
    choices: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()  # what may stand before an equals sign among its values


NOTHING = Takes()
NUMBER = Takes(Value.ONE, "N")
INPUT = Takes(Value.ONE, "INPUT", Completes.FILES)
FILE = Takes(Value.ONE, "FILE", Completes.FILES)
FOLDER = Takes(Value.ONE, "DIR", Completes.FOLDERS)
TASK = Takes(Value.ONE, "ID", Completes.TASKS)
TASK_OR_ALL = Takes(Value.OPTIONAL, "ID", Completes.TASKS)
TASKS = Takes(Value.MANY, "ID", Completes.TASKS)
TASKS_OR_ALL = Takes(Value.ANY, "ID", Completes.TASKS)


class Flag(NamedTuple):
    """One flag, with the fields of what it takes. `goes_with` names a modifier's verbs; empty: every verb."""

    name: str
    help: Text
    value: Value
    metavar: str
    completes: Completes
    choices: tuple[str, ...]
    keys: tuple[str, ...]
    is_verb: bool
    goes_with: tuple[str, ...]

    @property
    def usage(self) -> str:
        """The flag with its value, as help shows it: `-cancel ID…`."""
        shape = {
            Value.NONE: "",
            Value.ONE: f" {self.metavar}",
            Value.OPTIONAL: f" [{self.metavar}]",
            Value.MANY: f" {self.metavar}…",
            Value.ANY: f" [{self.metavar}…]",
        }
        return f"-{self.name}{shape[self.value]}"


def verb(name: str, help_text: Text, takes: Takes = NOTHING) -> Flag:
    """What a command line has one of."""
    return Flag(name, help_text, *takes, is_verb=True, goes_with=())


def modifier(name: str, help_text: Text, *goes_with: str, takes: Takes = NOTHING) -> Flag:
    """What goes with the verbs that are named; with every one if none is."""
    return Flag(name, help_text, *takes, is_verb=False, goes_with=goes_with)

"""The program: parse, run the verb, and turn whatever ends it into messages and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from batch_infer.cli.context import Context
from batch_infer.cli.failures import show
from batch_infer.cli.parser import parse
from batch_infer.protocol.errors import EXIT_INTERRUPTED, BatchInferError, InternalError, UsageError
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import find_workspace
from batch_infer.render.console import Console, standard_console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_infer.cli.request import Request

EXIT_BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended

# Verbs that need no workspace, so that they work anywhere.
_ANYWHERE = frozenset({"help", "version", "completion"})


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` (without the program's name); the exit code."""
    console = standard_console()
    try:
        code = _guarded(console, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        # A full disk behind the output, for one; what a verb can say more about it has said itself.
        console.error(Text("{error}", {"error": str(error)}))
        _discard_output()
        return BatchInferError.exit_code
    return code


def _guarded(console: Console, arguments: Sequence[str]) -> int:
    try:
        return run(console, arguments, lambda request: Context(find_workspace(request.workspace), console))
    except BatchInferError as error:
        return show(console, error)
    except KeyboardInterrupt:
        console.tell(Text("interrupted; tasks that were submitted go on running"))
        return EXIT_INTERRUPTED
    except OSError:
        raise
    except Exception:  # noqa: BLE001  a bug; Python's own exit code 1 would mean "done, with failed records"
        import traceback

        traceback.print_exc()
        return InternalError.exit_code


def run(console: Console, arguments: Sequence[str], make_context: Callable[[Request], Context]) -> int:
    """Parse and run one verb. Raises what the verb raises."""
    if not arguments:
        from batch_infer.cli.help import help_text

        console.say(help_text(console.lang, console.columns()))
        return UsageError.exit_code
    request = parse(arguments)
    if request.verb in _ANYWHERE:
        request = request._replace(workspace=".")
    verb = import_module(f"batch_infer.cli.verbs.{request.verb}")
    code: int = verb.run(make_context(request), request)
    return code


def _discard_output() -> None:
    """Nobody reads any more: what is still buffered goes nowhere, also at the interpreter's exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

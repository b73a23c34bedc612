"""`batch_infer` and `python -m batch_infer`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit with its code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["-complete"]:  # asked by the shell at each Tab: no more imports than it needs
        from batch_infer.cli.complete import main as run
    else:
        from batch_infer.cli.app import main as run
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()

"""`python -m batch_inferd`."""

from __future__ import annotations

import faulthandler
import sys

from batch_inferd.main import main

if __name__ == "__main__":
    faulthandler.enable()  # a crash of the interpreter itself leaves a trace in daemon.out.log
    sys.exit(main())

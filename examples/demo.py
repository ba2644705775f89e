"""The demo, `make demo`: a sentence classifier in an eleventh of its bytes, and what that cost.

It is the command below, shown and run. `examples/demo_task.py` says what must keep working.
"""

import os
import shlex
import sys
from pathlib import Path

from lilliput.cli import main

COMMAND = "compress examples/demo_task.py --storage 9% --drop 1% --out out/demo --force"

if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    print(f"$ lilliput {COMMAND}", file=sys.stderr, flush=True)
    sys.argv[1:] = shlex.split(COMMAND)  # so that the report names the command that repeats it
    sys.exit(main())

"""``python -m lilliput`` is the command line."""

import sys

from lilliput.cli import main

sys.exit(main())

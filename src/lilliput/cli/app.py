"""The table of sub-commands."""

from cyclopts import App

import lilliput
from lilliput.cli.checking import report, verify
from lilliput.cli.compressing import apply, compress
from lilliput.cli.looking import doctor, inspect
from lilliput.cli.packing import pack, unpack
from lilliput.cli.profiling import profile
from lilliput.cli.starting import init

COMMANDS = (compress, profile, apply, verify, pack, unpack, report, init, inspect, doctor)

app = App(
    name="lilliput",
    help="Say what a model must fit; get a file that fits, and proof.",
    help_epilogue="Exit status: 0 proved, 1 missed, 3 unproved, 2 bad input, 70 our own error, "
    "130 interrupted.",
    version=lilliput.__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for _command in COMMANDS:
    app.command(_command)

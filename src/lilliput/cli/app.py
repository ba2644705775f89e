"""The program; each sub-command joins it where it is defined."""

from cyclopts import App

import lilliput
from lilliput.cli.screen import Output

app = App(
    name="lilliput",
    help="Say what a model must fit; get a file that fits, and proof.",
    help_epilogue="Exit status: 0 proved, 1 missed, 3 unproved, 2 bad input, 70 our own error, "
    "130 interrupted.",
    version=lilliput.__version__,
    console=Output(),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)

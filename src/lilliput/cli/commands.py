"""The table of sub-commands."""

from lilliput.cli.app import app
from lilliput.cli.checking import report, verify
from lilliput.cli.compressing import apply, compress
from lilliput.cli.distilling import distill
from lilliput.cli.growing import grow, shrink_to
from lilliput.cli.learning import finetune, tune
from lilliput.cli.looking import augmentations, doctor, inspect, techniques
from lilliput.cli.packing import pack, unpack
from lilliput.cli.profiling import profile
from lilliput.cli.simplifying import simplify
from lilliput.cli.starting import init

__all__ = ["COMMANDS", "NAMES", "app"]

COMMANDS = (
    *(compress, profile, apply, verify, pack, unpack, report, init, inspect, doctor, simplify),
    *(grow, shrink_to, finetune, distill, tune, techniques, augmentations),
)
NAMES = frozenset(command.__name__.replace("_", "-") for command in COMMANDS)

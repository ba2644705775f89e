"""The command line: one sub-command per user verb; parses, prints, no logic."""

from lilliput.cli.door import main

__all__ = ["main"]

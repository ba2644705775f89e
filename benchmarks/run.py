"""Measure the rows that are not measured yet: ``python -m benchmarks.run [--only ROW] [--list]``.

Every record is written as soon as it is known, so a stopped run goes on where it was.
"""

import argparse
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks import scoreboard, table
from benchmarks.record import append, read
from benchmarks.rows import ROWS


def run(name: str) -> int:
    """Measure what is missing of one row; the number of new records."""
    done = {record.key for record in read(name)}
    count = 0
    for record in ROWS[name](frozenset(done)):
        if record.key in done:
            continue
        append(record)
        done.add(record.key)
        count += 1
        errors = ", ".join(f"{key} {value:.4g}" for key, value in record.errors.items())
        print(f"{name}: {record.peer} {record.setting} seed {record.seed}", end=": ")
        print(f"{record.share:.2%} of fp32, {errors}", flush=True)
    return count


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(ROWS), metavar="ROW")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print(*ROWS, sep="\n")
        return
    for name in chosen.only or ROWS:
        print(f"{name}: {run(name)} new records", flush=True)
    table.main([])
    scoreboard.main([])


if __name__ == "__main__":
    main(sys.argv[1:])

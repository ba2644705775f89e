"""The outcome in a sentence and in a terminal table."""

import math
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lilliput.records import Drop, Report, VerdictWord
from lilliput.stages import wording
from lilliput.stages.generalization_rows import generalization_rows
from lilliput.stages.runtime_rows import runtime_rows, runtime_title

SYMBOLS: dict[VerdictWord, str] = {"proved": "✔", "unproved": "?", "missed": "✘"}
_STYLES: dict[VerdictWord, str] = {
    "proved": "bold green",
    "unproved": "bold yellow",
    "missed": "bold red",
}


def shipped_name(report: Report) -> str:
    """The file to ship: the packed one where there is one."""
    packed = sorted(name for name in report.files if name.endswith(".lilliput"))
    runnable = sorted(name for name in report.files if name.endswith((".onnx", ".safetensors")))
    return wording.clean((packed + runnable + ["the compressed model"])[0])


def summary_sentence(report: Report, folder: Path | None = None) -> str:
    """The verdict for a reader who is no expert, in two or three sentences.

    Args:
        report: What was measured and judged; its own `summary` is not read.
        folder: Where the files are, to be named before the file; None names the file alone.
    """
    name = shipped_name(report)
    known = name in report.files
    path = str(folder / name) if folder is not None and known else name
    gone = wording.bytes_gone(report.original.storage_bytes, report.artifact.storage_bytes)
    if report.verdict == "proved":
        first = f"Ship {path}: {gone}." if gone else f"Ship {path}."
    else:
        first = _opening(report, path if known else name[0].upper() + name[1:])
    middle = f"{gone[0].upper()}{gone[1:]}." if gone and report.verdict != "proved" else ""
    sentences = (first, middle, _drop_sentence(report), *_open_limits(report))
    return " ".join(sentence for sentence in sentences if sentence)


def _opening(report: Report, path: str) -> str:
    """The headline of what is not proved: which limits stand in the way."""
    titles = [
        wording.LIMIT_TITLES[limit.name].lower()
        for limit in report.limits
        if limit.verdict == report.verdict
    ]
    stopped = f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else "".join(titles)
    if report.runtimes and report.runtimes[0].problem:
        return f"Do not ship {path}: {runtime_title(report.runtimes[0].name)} cannot run it."
    if report.verdict == "missed":
        return f"Do not ship {path}: {stopped or 'a limit'} missed."
    return f"{path} is not proved yet: {stopped} still open." if stopped else f"{path} is unproved."


def _drop_sentence(report: Report) -> str:
    drop = report.drop
    if any(limit.name == "drop" and limit.verdict != "proved" for limit in report.limits):
        return ""  # the limit's own reason says it
    if drop is None:
        return "How much the answers suffered was not measured."
    examples = wording.count(drop.examples)
    if drop.upper is None or not math.isfinite(drop.upper):
        return f"{examples} examples are too few to say how much worse its answers can be."
    sure = f"{wording.number(100 * drop.confidence, 4)} % sure"
    return f"On {examples} examples like yours {_at_most(report, drop)}, {sure}."


def _at_most(report: Report, drop: Drop) -> str:
    unit = wording.report_unit(report)
    upper = drop.upper or 0.0
    metric = wording.clean(drop.metric, 60)
    if upper < 0:
        gain = wording.drop_number(-upper, unit, rounding="down")
        return f"{metric} gets better by at least {gain}"
    if wording.counts_answers(drop):
        share = wording.drop_number(upper, "points", rounding="up", worded=False)
        other = "agreement" in metric.lower()
        change = "differ from the original's" if other else "get worse on balance"
        return f"at most {share} of 100 answers {change}"
    return f"{metric} gets worse by at most {wording.drop_number(upper, unit, rounding='up')}"


def _open_limits(report: Report) -> list[str]:
    """The reason of each limit that does not hold, missed ones first."""
    order = sorted(report.limits, key=lambda limit: limit.verdict != "missed")
    return [_closed(limit.reason) for limit in order if limit.verdict != "proved"]


def _closed(sentence: str) -> str:
    text = wording.clean(sentence, 400)
    return text if text.endswith((".", "!", "?")) else f"{text}."


def summary_table(report: Report, folder: Path | None = None) -> RenderableType:
    """What the terminal shows at the end: verdict, limits, sizes, paths.

    Args:
        report: What was measured and judged.
        folder: Where the report and the artifact were written; None leaves the paths out.
    """
    word = wording.VERDICT_TITLES[report.verdict].upper()
    head = Text(f" {SYMBOLS[report.verdict]} {word} ", style=f"{_STYLES[report.verdict]} reverse")
    parts: list[RenderableType] = [head, Text(report.summary or summary_sentence(report, folder))]
    if report.limits:
        parts += [Text(), _limit_table(report)]
    parts += [Text(), _size_table(report)]
    if len(report.runtimes) > 1:
        parts += [Text(), _runtime_table(report)]
    if report.generalization:
        parts += [Text(), _generalization_table(report)]
    if folder is not None:
        parts += [Text(), _paths(report, folder)]
    return Group(*parts)


def _limit_table(report: Report) -> Table:
    table = Table("limit", "asked", "measured", "bounds", "verdict", box=None, pad_edge=False)
    unit = wording.report_unit(report)
    for limit in report.limits:
        verdict = f"{SYMBOLS[limit.verdict]} {limit.verdict}"
        table.add_row(
            Text(wording.LIMIT_TITLES[limit.name]),
            Text(wording.limit_asked(limit, unit)),
            Text(wording.limit_number(limit, limit.value, unit)),
            Text(wording.limit_bounds(limit, unit) or "exact"),
            Text(verdict, style=_STYLES[limit.verdict]),
        )
    return table


def _size_table(report: Report) -> Table:
    table = Table("", "original", "compressed", "of it", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for pair in wording.pairs(report):
        cells = (pair.title, pair.original_text, pair.artifact_text, wording.share(pair.ratio))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _runtime_table(report: Report) -> Table:
    table = Table(
        *(
            "runtime",
            "computes in",
            "original",
            "compressed",
            "largest difference",
            "other answers",
        ),
        box=None,
        pad_edge=False,
    )
    for row in runtime_rows(report):
        cells = (row.title, row.precision, row.original, row.artifact, row.difference, row.changed)
        table.add_row(
            *(Text(cell) for cell in ((row.title, row.problem) if row.problem else cells))
        )
    return table


def _generalization_table(report: Report) -> Table:
    """What corrupted inputs do; how many they were is the same for all."""
    examples = wording.count(report.generalization[0].examples)
    table = Table(
        *(f"on {examples} corrupted inputs", "original", "compressed", "loss", "95 % sure"),
        box=None,
        pad_edge=False,
    )
    for row in generalization_rows(report):
        cells = (row.corruption, row.original, row.artifact, row.drop, row.upper)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _paths(report: Report, folder: Path) -> Text:
    names = ["report.html", *sorted(report.files)]
    return Text("\n".join(str(folder / wording.clean(name)) for name in names))

"""The scoreboard: ours against each peer on the same task, bytes and clock, rows we lose included.

``python -m benchmarks.scoreboard`` rewrites docs/scoreboard.md between its two marked lines.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.record import RESULTS, Record, read
from benchmarks.table import spread

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scoreboard.md"
BLOCK = re.compile(r"(<!-- scoreboard -->\n).*?(<!-- /scoreboard -->)", re.DOTALL)


@dataclass(frozen=True)
class Contest:
    """One measure on which we meet one peer; smaller ratios are better for us.

    Attributes:
        task: What both did, in words.
        rows: Rows of the benchmark that hold ours and theirs.
        ours: Pattern of our record's name.
        peer: Pattern of the peer's; of several the one with the best median counts.
        measure: Name of the error or detail that is compared.
        asked: The ratio we hold ourselves to; None where nothing was promised.
        inverse: More is better (a speed), so the ratio is theirs over ours.
        setting: The only setting that counts; empty: every one.
    """

    task: str
    rows: tuple[str, ...]
    ours: str
    peer: str
    measure: str
    asked: float | None = None
    inverse: bool = False
    setting: str = ""


WHOLE = "whole model, equal files, {}"
INT8 = ("minilm_int8", "efficientnet_int8", "resnet_int8")
CONTESTS = (
    *(
        Contest(
            WHOLE.format("MiniLM, relative error"),
            ("minilm_whole_ours", "minilm_whole_standard", "minilm_whole_hqq"),
            "lilliput",
            peer,
            "relative",
            asked,
        )
        for peer, asked in ((r"nncodec-\d+", 0.55), ("hqq_zstd", 0.30))
    ),
    *(
        Contest(
            WHOLE.format("EfficientNet-Lite0, KL"),
            ("efficientnet_whole_ours", "efficientnet_whole_standard", "efficientnet_whole_hqq"),
            "lilliput",
            peer,
            "kl",
            asked,
        )
        for peer, asked in ((r"nncodec-\d+", 0.75), ("hqq_zstd", None))
    ),
    *(
        Contest(
            "MiniLM's layers at the peer's bytes, entropy-coded, relative error",
            ("minilm_sites", "minilm_sites_ours"),
            f"lilliput as large as {peer}",
            peer,
            "relative",
        )
        for peer in ("round_to_nearest", "hqq", "torchao_intx", "error_feedback")
    ),
    *(
        Contest(
            "MiniLM's layers in groups of 64, bits packed, relative error",
            ("minilm_groups",),
            "lilliput feedback",
            peer,
            "relative",
        )
        for peer in ("round_to_nearest", "hqq", "torchao_intx", "error_feedback")
    ),
    *(
        Contest(
            f"SmolLM2-135M in groups of 64, {word}", ("smollm2_groups",), "lilliput", peer, name
        )
        for peer in ("round_to_nearest", "hqq")
        for name, word in (("perplexity", "perplexity"), ("kl", "KL"))
    ),
    *(
        Contest(
            "MiniLM's layers, zeros, relative error",
            ("minilm_sparse",),
            "sensitivity",
            peer,
            "relative",
            asked,
        )
        for peer, asked in (("magnitude", None), ("wanda", 0.70), ("sparsegpt", 0.90))
    ),
    *(
        Contest(
            "MiniLM, fewer hidden neurons, relative error",
            ("minilm_narrow",),
            "second order, refit",
            peer,
            "relative",
            asked,
            setting=f"{removed} narrower",
        )
        for peer, removed, asked in (
            ("torch-pruning group magnitude", "25%", 0.40),
            ("torch-pruning group magnitude", "50%", 0.50),
            ("torch-pruning group magnitude, our refit", "25%", 0.80),
            ("torch-pruning group magnitude, our refit", "50%", 0.80),
        )
    ),
    *(
        Contest(
            "EfficientNet-Lite0, 25 % fewer expanded channels, KL",
            ("efficientnet_narrow",),
            "second order, together, refit",
            peer,
            "kl",
            asked,
        )
        for peer, asked in (("activation norms", 0.40), ("activation norms, together", None))
    ),
    Contest(
        "MiniLM's layers, half rank, relative error",
        ("minilm_lowrank",),
        "whitened, ranks by damage",
        "svd",
        "relative",
        0.65,
    ),
    Contest(
        "MiniLM's layers, shared values, relative error",
        ("minilm_shared",),
        "compensated",
        "k-means",
        "relative",
        0.55,
    ),
    *(
        Contest(f"int8, {name}", (row,), "quantize_static", peer, measure, asked)
        for row, name, measure in (
            ("minilm_int8", "MiniLM, relative error", "relative"),
            ("efficientnet_int8", "EfficientNet-Lite0, KL", "kl"),
            ("resnet_int8", "ResNet18-like, relative error", "relative"),
        )
        for peer, asked in ((r"nncf_\w+", 0.5), ("ort_static", None), ("ort_dynamic", None))
    ),
    *(
        Contest(
            f"int8, {name}, speed at batch {size}",
            (row,),
            "quantize_static",
            peer,
            f"faster_batch_{size}",
            inverse=True,
        )
        for row, name in zip(INT8, ("MiniLM", "EfficientNet-Lite0", "ResNet18-like"), strict=True)
        for peer in (r"nncf_\w+", "ort_static", "ort_dynamic")
        for size in (1, 8)
    ),
)


def lines(contests: Sequence[Contest], folder: Path = RESULTS) -> Iterator[str]:
    """One line of the table per contest and setting that was measured on both sides."""
    for contest in contests:
        records = [record for row in contest.rows for record in read(row, folder)]
        settings = dict.fromkeys(record.setting for record in records)
        for setting in settings:
            if contest.setting not in ("", setting):
                continue
            here = [record for record in records if record.setting == setting]
            ours = _values(here, contest.ours, contest.measure)
            theirs = _best(here, contest)
            if ours and theirs:
                yield _line(contest, setting, ours, *theirs)


def _line(
    contest: Contest, setting: str, ours: dict[int, float], name: str, theirs: dict[int, float]
) -> str:
    ratios = list(_ratios(ours, theirs, inverse=contest.inverse))
    asked = "–" if contest.asked is None else f"{contest.asked:g}"
    middle = median(ratios)
    cells = [
        contest.task,
        setting,
        f"{median(ours.values()):.3g}",
        f"`{name}` {median(theirs.values()):.3g}",
        spread(ratios, 2),
        asked,
        "won" if middle < 1 else "**lost**",
    ]
    if contest.asked is not None and 1 > middle > contest.asked:
        cells[-1] = "won, short of what was asked"
    return "| " + " | ".join(cells) + " |"


def _ratios(ours: dict[int, float], theirs: dict[int, float], *, inverse: bool) -> Iterable[float]:
    """Seed by seed where both have it; a peer that needs no data was measured once for all."""
    for seed, value in ours.items():
        other = theirs.get(seed, median(theirs.values()))
        yield other / value if inverse else value / other


def _best(records: Sequence[Record], contest: Contest) -> tuple[str, dict[int, float]] | None:
    """Of the peers that fit the pattern the one with the best median."""
    names = sorted({r.peer for r in records if re.fullmatch(contest.peer, r.peer)})
    known = {name: _values(records, re.escape(name), contest.measure) for name in names}
    known = {name: values for name, values in known.items() if values}
    if not known:
        return None
    pick = max if contest.inverse else min
    return pick(known.items(), key=lambda each: median(each[1].values()))


def _values(records: Iterable[Record], name: str, measure: str) -> dict[int, float]:
    """Seed -> value of the records whose peer is called so."""
    found = {}
    for record in records:
        value = record.errors.get(measure, record.details.get(measure))
        if re.fullmatch(name, record.peer) and isinstance(value, int | float):
            found[record.seed] = float(value)
    return found


def rewrite(text: str, contests: Sequence[Contest] = CONTESTS, folder: Path = RESULTS) -> str:
    """The page with the table filled in from the results."""
    head = [
        "| task and measure | setting | ours | peer | ours : theirs | asked | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    table = "\n".join([*head, *lines(contests, folder)]) + "\n"
    return BLOCK.sub(lambda match: match[1] + table + match[2], text)


def main(arguments: Sequence[str]) -> None:
    """Rewrite the page, or the files given."""
    for path in [Path(each) for each in arguments] or [PAGE]:
        path.write_text(rewrite(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The rows of the benchmark: one file per kind of row, all listed in `ROWS`.

A row yields its records as it measures them; it is handed the keys that are done and skips those.
"""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.record import Record
from benchmarks.rows import (
    demo,
    distillation,
    groups,
    growth,
    int8,
    language,
    learning,
    lowrank,
    narrow,
    ours,
    reports,
    resources,
    sentences,
    sites,
    sites_ours,
    sparse,
    squeezed,
    steps,
    thinned,
    uniform,
    whole,
)

Done = frozenset[tuple[str, str, int]]
Row = Callable[[Done], Iterator[Record]]

ROWS: dict[str, Row] = {
    "few_bits": partial(learning.few_bits, "few_bits", "fashion_mnist"),
    "few_bits_resnet20": partial(learning.few_bits, "few_bits_resnet20", "resnet20"),
    "growth": partial(growth.measure, "growth"),
    "transfer": partial(learning.transfer, "transfer"),
    "tuning": partial(learning.tuning, "tuning"),
    "loop_overhead": partial(learning.overhead, "loop_overhead"),
    "squeezed": partial(squeezed.measure, "squeezed", ("lenet300", "lenet5")),
    "squeezed_resnet20": partial(squeezed.measure, "squeezed_resnet20", ("resnet20",)),
    "fewer_macs": partial(thinned.measure, "fewer_macs"),
    "demo_seeds": partial(demo.measure, "demo_seeds"),
    "sentences_smaller": partial(sentences.smaller, "sentences_smaller"),
    "sentences_faster": partial(sentences.faster, "sentences_faster"),
    "distillation": partial(distillation.measure, "distillation"),
    "five_models": partial(reports.measure, "five_models"),
    "minilm_whole_ours": partial(ours.whole, "minilm_whole_ours", "minilm"),
    "minilm_resources": partial(resources.measure, "minilm_resources", "minilm"),
    "efficientnet_whole_ours": partial(ours.whole, "efficientnet_whole_ours", "efficientnet"),
    "minilm_int8": partial(int8.measure, "minilm_int8", "minilm"),
    "efficientnet_int8": partial(
        int8.measure, "efficientnet_int8", "efficientnet_crops", more=(int8.FLOAT_FIRST,)
    ),
    "resnet_int8": partial(int8.measure, "resnet_int8", "resnet"),
    "minilm_sites": partial(sites.measure, "minilm_sites", "minilm"),
    "minilm_sites_ours": partial(sites_ours.measure, "minilm_sites_ours", "minilm", "minilm_sites"),
    "minilm_lowrank": partial(lowrank.measure, "minilm_lowrank"),
    "minilm_narrow": partial(narrow.measure, "minilm_narrow", "minilm"),
    "efficientnet_narrow": partial(narrow.measure, "efficientnet_narrow", "efficientnet"),
    "minilm_narrow_clock": partial(narrow.clocked, "minilm_narrow_clock"),
    "minilm_groups": partial(groups.measure, "minilm_groups", "minilm"),
    "smollm2_groups": partial(language.measure, "smollm2_groups"),
    "minilm_shared": partial(sparse.shared, "minilm_shared"),
    "minilm_sparse": partial(sparse.measure, "minilm_sparse"),
    "minilm_whole_standard": partial(whole.standard, "minilm_whole_standard", "minilm"),
    "minilm_whole_our_steps": partial(steps.measure, "minilm_whole_our_steps", "minilm"),
    "minilm_whole_hqq": partial(whole.hqq_zstd, "minilm_whole_hqq", "minilm"),
    "planned_against_uniform": partial(uniform.measure, "planned_against_uniform"),
    "efficientnet_whole_standard": partial(
        whole.standard, "efficientnet_whole_standard", "efficientnet"
    ),
    "efficientnet_whole_hqq": partial(whole.hqq_zstd, "efficientnet_whole_hqq", "efficientnet"),
}

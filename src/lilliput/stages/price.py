"""What memory and latency each option has on this machine, fitted on whole files.

The files are variants of the model: all sites in one kind of kernel, then sites in kinds drawn at
random. Each is exported and timed in turns with the original, and non-negative coefficients per
kind of kernel and kind of site explain what was measured: a factor on the time that the runtime's
own profiler gives the site in the original, and a constant. Multiply-adds alone tell little.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from lilliput.environment import cache_folder, fingerprint
from lilliput.model.encodings import Encoding
from lilliput.model.profiles import Profile
from lilliput.progress import Progress, unseen
from lilliput.records import Plan
from lilliput.runtime.bench import Bench
from lilliput.runtime.op_times import by_site, operation_times
from lilliput.stages.apply import apply
from lilliput.stages.option_table import Candidate
from lilliput.stages.prices import Original, Prices, Variant, fitted, kernel_of

MIXES = 6  # variants whose sites' kernels are drawn at random
PLAIN = "quantize_float16@32"  # a kernel that computes as the original does
Candidates = Mapping[str, tuple[Candidate, ...]]


@dataclass(frozen=True)
class Subject:
    """What is priced.

    Attributes:
        profile: The sites.
        candidates: By site.
        graph: The file with untouched weights and the graph that `write` fills; not always the
            original itself, which may be an ONNX file as somebody left it, or have another shape.
        readers: Site -> nodes of that graph that read it.
        write: Writes a runnable file.
        label: What else about the files decides how fast they are, e.g. the arithmetic.
    """

    profile: Profile
    candidates: Candidates
    graph: Path
    readers: Mapping[str, tuple[str, ...]]
    write: Callable[[Mapping[str, Encoding], Path], None]
    label: str = ""


def price(subject: Subject, bench: Bench, *, seed: int = 0, progress: Progress = unseen) -> Prices:
    """The prices on this machine; from the cache where they were measured before.

    Measured once per machine, versions, threads, batch, model and set of kernels. The cache may be
    deleted at any time. Time and memory grow with the number of kernels, not of options: one
    encoding per site and kernel is held while the variants are written.

    Args:
        subject: The model and what could become of it.
        bench: An open bench of the original.
        seed: Of the draws.
        progress: Told the stage, steps done and steps in all.
    """
    path = cache_folder() / f"prices-{_key(subject, bench, seed)}.json"
    known = _read(path)
    if known is None:
        known = _measured(subject, bench, seed=seed, progress=progress)
        _write(path, known)
    return known


def _kernels(subject: Subject) -> dict[str, dict[str, Candidate]]:
    """Kernel -> site -> the middle one of the candidates that use it."""
    found: dict[str, dict[str, list[Candidate]]] = {}
    for name, candidates in subject.candidates.items():
        size = subject.profile.sites[name].site.size
        for candidate in candidates:
            own = found.setdefault(kernel_of(candidate, size), {})
            own.setdefault(name, []).append(candidate)
    return {
        kernel: {name: some[len(some) // 2] for name, some in own.items()}
        for kernel, own in sorted(found.items())
    }


def _variants(
    kernels: Mapping[str, Mapping[str, Candidate]], sites: Sequence[str], seed: int
) -> Iterator[Variant]:
    """All sites in each kernel, as far as they can be; then sites drawn one by one."""
    plain = {
        name: next(own[name] for own in (kernels.get(PLAIN, {}), *kernels.values()) if name in own)
        for name in sites
    }
    for own in kernels.values():
        yield plain | dict(own)
    made = np.random.default_rng(seed)
    for _ in range(MIXES if len(kernels) > 1 else 0):
        yield {
            name: able[int(made.integers(len(able)))]
            for name in sites
            for able in [[own[name] for own in kernels.values() if name in own]]
        }


def _measured(subject: Subject, bench: Bench, *, seed: int, progress: Progress) -> Prices:
    sites = tuple(subject.profile.sites)
    kernels = _kernels(subject)
    variants = list(_variants(kernels, sites, seed))
    original_bytes, _ = bench.measure(bench.original)
    made: dict[tuple[str, str], Mapping[str, Encoding]] = {}
    measured = []
    for number, variant in enumerate(variants):
        progress("price", number, len(variants))
        path = bench.scratch / "variant.onnx"
        subject.write(_encodings(subject.profile, variant, made), path)
        measured.append(bench.measure(path))
    progress("price", len(variants), len(variants))
    times = operation_times(subject.graph, bench.arrays, threads=bench.threads)
    own, others = by_site(subject.graph, times, readers=subject.readers)
    _, share = (0, 1.0) if subject.graph == bench.original else bench.measure(subject.graph)
    scale = share * bench.original_ms / max(1e-9, sum(time.milliseconds for time in times))
    original = Original(
        bench.original_ms,
        original_bytes,
        scale * sum(time.milliseconds for time in others),
        {name: scale * own.get(name, 0.0) for name in sites},
    )
    found = {name: known.site for name, known in subject.profile.sites.items()}
    return fitted(found, original, variants=variants, measured=np.array(measured))


def _encodings(
    profile: Profile, variant: Variant, made: dict[tuple[str, str], Mapping[str, Encoding]]
) -> dict[str, Encoding]:
    found: dict[str, Encoding] = {}
    for name, candidate in variant.items():
        key = name, repr(candidate.chain)
        if key not in made:
            made[key] = apply(
                Plan(model_hash=profile.model_hash, steps=candidate.steps(name)), profile
            )
        found |= made[key]
    return found


def _key(subject: Subject, bench: Bench, seed: int) -> str:
    """Everything that the measurements depend on."""
    facts = fingerprint(
        model=subject.profile.model_hash,
        graph=hashlib.sha256(str(sorted(subject.readers.items())).encode()).hexdigest(),
        kernels={name: sorted(own) for name, own in _kernels(subject).items()},
        inputs=[[list(array.shape), str(array.dtype)] for array in bench.arrays],
        threads=bench.threads,
        runtime=bench.runtime,
        seed=seed,
        label=subject.label,
    )
    return facts[:32]


def _read(path: Path) -> Prices | None:
    """None where there is nothing, or nothing whole."""
    try:
        return Prices.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(path: Path, prices: Prices) -> None:
    """Appears whole or not at all; a cache that cannot be written is no error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(json.loads(prices.model_dump_json()), sort_keys=True))
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()

"""Reports for tests: a plausible MiniLM run of 38 sites, an almost empty one, and a hostile one."""

import hashlib
import math
import random

from lilliput.planned import Compared, Planning, Point, Prediction
from lilliput.records import (
    ClassChange,
    CorruptedScore,
    Drop,
    Fidelity,
    FileEntry,
    Latency,
    LimitResult,
    Plan,
    Report,
    RuntimeScore,
    SiteReport,
    Sizes,
    Step,
    WorstExample,
)
from lilliput.stages.summary import summary_sentence

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% raw %}&amp;<!--",
    "🦙🔥 smörgåsbord \u2028\u2029",
    "\u202eمرحبا بالعالم",
    "x" * 10_000,
    "line one\nline two\x1b[31mred\x00",
)


def _shapes() -> list[tuple[str, str, tuple[int, ...]]]:
    shapes = [("encoder.embeddings.word_embeddings.weight", "embedding", (30522, 384))]
    for layer in range(6):
        stem = f"encoder.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes.append((f"{stem}.attention.self.{part}.weight", "linear", (384, 384)))
        shapes.append((f"{stem}.attention.output.dense.weight", "linear", (384, 384)))
        shapes.append((f"{stem}.intermediate.dense.weight", "linear", (1536, 384)))
        shapes.append((f"{stem}.output.dense.weight", "linear", (384, 1536)))
    return [*shapes, ("head.weight", "linear", (2, 384))]


def _sites(seed: int) -> tuple[SiteReport, ...]:
    draw = random.Random(seed)
    sites = []
    for place, (name, kind, shape) in enumerate(_shapes()):
        size = math.prod(shape)
        sensitivity = 0.02 * math.exp(draw.gauss(0, 0.9)) * (1 + place / 12)
        bits = round(min(8.0, max(1.3, 3.0 + 0.5 * math.log2(sensitivity / 0.02))), 4)
        sites.append(
            SiteReport(
                name=name,
                kind=kind,
                shape=shape,
                encoding="Grid" if name != "head.weight" else "Dense",
                bits=bits,
                bound_bits=round(bits - 0.27 - 0.08 * draw.random(), 4),
                original_bytes=4 * size,
                storage_bytes=round(bits * size / 8),
                damage=round(4.0 ** (-bits) * 2.5, 8),
                sensitivity=round(sensitivity, 6),
                macs=0 if kind == "embedding" else 64 * size,
                clipped=draw.choice([0, 0, 0, 0, 3, 41]),
            )
        )
    return tuple(sites)


def _drop() -> Drop:
    sentences = (
        "A film so quietly sure of itself that its final twist almost slips past you.",
        "It would have been a better movie had it trusted the audience a little less.",
        "Not without charm, though one leaves wondering where the second act went.",
    )
    worst = [
        WorstExample(index=4711 + 97 * i, label="positive", summary=s, original=1.0, artifact=0.0)
        for i, s in enumerate(sentences)
    ]
    classes = (("negative", 3377, 0.7812, 0.7846, 171), ("positive", 3423, 0.7704, 0.7672, 169))
    return Drop(
        metric="accuracy",
        higher_is_better=True,
        estimate=-0.0001,
        upper=0.0043,
        lower=-0.0046,
        confidence=0.95,
        method="score",
        examples=6800,
        groups=6800,
        flips=340,
        look=1,
        per_class=tuple(
            ClassChange(label=name, examples=n, original=a, artifact=b, flips=f)
            for name, n, a, b, f in classes
        ),
        worst=tuple(worst),
    )


def _files() -> dict[str, FileEntry]:
    sizes = {
        "manifest.json": 6_412,
        "model.lilliput": 8_093_338,
        "model.onnx": 23_411_904,
        "model.safetensors": 23_022_720,
        "plan.toml": 4_871,
    }
    return {
        name: FileEntry(sha256=hashlib.sha256(name.encode()).hexdigest(), bytes=size)
        for name, size in sizes.items()
    }


def _runtimes() -> tuple[RuntimeScore, ...]:
    judged = RuntimeScore(
        name="onnxruntime",
        version="1.31.1",
        precision="float32",
        original_score=0.7757,
        artifact_score=0.7758,
    )
    other = RuntimeScore(
        name="openvino",
        version="2026.4.1",
        precision="bfloat16",
        original_score=0.7751,
        artifact_score=0.776,
        agreement=Fidelity(decibels=44.1, largest_difference=0.0312, examples=6800),
        changed=19,
    )
    return judged, other


def _generalization() -> tuple[CorruptedScore, ...]:
    dropped = CorruptedScore(
        corruption="drop_tokens(rate=0.15)",
        examples=500,
        original_score=0.742,
        artifact_score=0.738,
        drop=0.004,
        upper=0.0213,
        confidence=0.95,
    )
    few = {"corruption": "mask_tokens(rate=0.15)", "examples": 60, "drop": 0.0, "upper": None}
    return dropped, dropped.model_copy(update=few)


def _limits() -> tuple[LimitResult, ...]:
    storage = LimitResult(
        name="storage",
        asked=8_184_000.0,
        asked_text="9%",
        value=8_093_338.0,
        lower=8_093_338.0,
        upper=8_093_338.0,
        verdict="proved",
        reason="The packed file has 8.09 MB, 90.7 kB less than allowed.",
    )
    drop = LimitResult(
        name="drop",
        asked=0.01,
        asked_text="1%",
        value=-0.0001,
        lower=-0.0046,
        upper=0.0043,
        verdict="proved",
        reason="Of 6,800 answers 340 changed, about as many for the better as for the worse.",
    )
    return storage, drop


def _point(name: str, size: int, moved: float, **places: bool) -> Point:
    return Point(
        name=name,
        plan=f"plan-{name.replace('%', '-percent')}.toml",
        storage_bytes=size,
        installed_bytes=23_000_000,
        latency_ms=4.3,
        divergence=moved,
        predicted_divergence=moved,
        expected_drop=None,
        **places,
    )


def minilm(**changes: object) -> Report:
    """A run on the sentence classifier, proved; `changes` replace fields of the report."""
    sites = _sites(7)
    step = Step(
        technique="quantize_entropy",
        where=tuple(site.name for site in sites),
        settings={"columns": True, "smoothing": 0.5, "storage": "9%"},
    )
    report = Report(
        budget={"storage": "9%", "drop": "1%"},
        task="movie sentences",
        original=Sizes(
            storage_bytes=90_933_721,
            installed_bytes=90_933_721,
            memory_bytes=118_784_000,
            latency_ms=Latency(p50=9.42, p95=11.8, batch=1, threads=2),
            score=0.7757,
            parameters=22_714_754,
            macs=681_576_448,
        ),
        artifact=Sizes(
            storage_bytes=8_093_338,
            installed_bytes=23_411_904,
            memory_bytes=119_500_800,
            latency_ms=Latency(p50=9.51, p95=12.1, batch=1, threads=2),
            score=0.7758,
            parameters=22_714_754,
            macs=681_576_448,
        ),
        source_checkpoint_bytes=90_868_376,
        limits=_limits(),
        drop=_drop(),
        fidelity=Fidelity(decibels=118.3, largest_difference=2.4e-6, examples=64),
        runtimes=_runtimes(),
        generalization=_generalization(),
        files=_files(),
        verdict="proved",
        summary="",
        reasons=(
            "The packed file has 8.09 MB, 90.7 kB less than allowed.",
            "Each end of the interval is a one-sided 95 % bound; it was the first look.",
        ),
        warnings=("Only 500 calibration sentences: 2,000 would estimate wide layers better.",),
        plan=Plan(
            model_hash=hashlib.sha256(b"minilm").hexdigest(),
            steps=(step,),
            predicted_damage=0.0113,
            predicted_storage_bytes=8_101_200,
        ),
        planning=Planning(
            stopped="no swap lowers the divergence on search examples any further",
            tried=17,
            compared=(
                Compared(name="mixed", predicted=0.0113, divergence=0.0127),
                Compared(name="quantize_round", predicted=0.041, divergence=0.038),
            ),
            predictions=(
                Prediction(name="divergence", predicted=0.0113, measured=0.0127),
                Prediction(name="storage", predicted=8_101_200, measured=8_090_000),
                Prediction(name="latency", predicted=4.31, measured=None),
            ),
            pricing_error=0.034,
        ),
        sweep=(
            _point("6%", 5_400_000, 0.061, on_front=True),
            _point("9%", 8_090_000, 0.0127, on_front=True, chosen=True),
            _point("20%", 18_000_000, 0.0131),
        ),
        sites=sites,
        splits={"calibration": 500, "search": 750, "proof": 6800},
        looks={"calibration": 1, "search": 46, "proof": 1},
        environment={
            "cpu": "2 cores, x86-64, AVX-512 VNNI",
            "lilliput": "0.1.0",
            "onnxruntime": "1.31.1",
            "python": "3.11.2",
            "system": "Linux",
            "torch": "2.13.0",
        },
        seconds={"profile": 41.2, "plan": 24.8, "apply": 11.3, "export": 19.6, "measure": 88.1},
        command="lilliput compress examples/sentences.py --storage 9% --drop 1% --out out/demo",
        seed=0,
    )
    report = report.model_copy(update=changes)
    return report.model_copy(update={"summary": report.summary or summary_sentence(report)})


def bare() -> Report:
    """No data, no measurement: plain rounding of one weight, verdict unproved."""
    report = Report(
        budget={},
        task="task",
        original=Sizes(storage_bytes=5000),
        artifact=Sizes(storage_bytes=1500),
        source_checkpoint_bytes=None,
        limits=(),
        drop=None,
        fidelity=None,
        files={},
        verdict="unproved",
        summary="",
        reasons=(),
        warnings=(),
        plan=Plan(model_hash="0" * 64, steps=()),
        sites=(),
        splits={},
        looks={},
        environment={},
        seconds={},
        command="",
        seed=0,
    )
    return report.model_copy(update={"summary": summary_sentence(report)})


def hostile(sites: int = 60) -> Report:
    """Every text of the user is an attack."""
    source = minilm()
    names = [f"{HOSTILE[i % len(HOSTILE)]}{i}" for i in range(sites)]
    evil = "".join(HOSTILE[:5])
    assert source.drop is not None
    return minilm(
        task=evil,
        budget={"drop": evil},
        sites=tuple(
            source.sites[i % 38].model_copy(update={"name": name, "kind": evil, "encoding": evil})
            for i, name in enumerate(names)
        ),
        drop=source.drop.model_copy(
            update={
                "metric": HOSTILE[0],
                "per_class": tuple(
                    ClassChange(
                        label=name, examples=5, original=0.5, artifact=0.5 - i / 90, flips=1
                    )
                    for i, name in enumerate(names[:14])
                ),
                "worst": tuple(
                    WorstExample(index=i, label=text, summary=text, original=None, artifact=0.0)
                    for i, text in enumerate(HOSTILE)
                ),
            }
        ),
        limits=tuple(x.model_copy(update={"reason": evil}) for x in source.limits),
        warnings=HOSTILE,
        reasons=HOSTILE,
        plan=Plan(
            model_hash=evil,
            steps=(Step(technique=evil, where=tuple(names), settings={evil: evil}),),
        ),
        environment={text: text for text in HOSTILE},
        runtimes=(
            RuntimeScore(name=evil, version=evil, precision=evil),
            *(RuntimeScore(name=text, problem=text) for text in HOSTILE),
        ),
        generalization=tuple(
            score.model_copy(update={"corruption": text, "upper": None})
            for text, score in zip(HOSTILE, 4 * source.generalization, strict=False)
        ),
        splits={"proof": 3, HOSTILE[0]: 4},
        seconds={HOSTILE[1]: 1.0},
        files={HOSTILE[0] + ".lilliput": FileEntry(sha256=evil, bytes=3)},
        command=evil,
    )


def unproved() -> Report:
    """Too few examples to prove the limit."""
    source = minilm()
    assert source.drop is not None
    limit = source.limits[1].model_copy(
        update={
            "value": 0.004,
            "lower": -0.0031,
            "upper": 0.0132,
            "verdict": "unproved",
            "reason": "The loss is probably small enough; 2,900 more examples would settle it",
        }
    )
    drop = source.drop.model_copy(
        update={"estimate": 0.004, "lower": -0.0031, "upper": 0.0132, "examples": 1500}
    )
    return minilm(
        limits=(source.limits[0], limit), drop=drop, verdict="unproved", reasons=(limit.reason,)
    )


def missed() -> Report:
    """An image classifier of 12 classes that lost too much, and is too slow."""
    source = minilm()
    assert source.drop is not None
    loss = source.limits[1].model_copy(
        update={
            "value": 0.031,
            "lower": 0.0242,
            "upper": 0.0381,
            "verdict": "missed",
            "reason": "Even the best case, a loss of 2.4 points, is beyond the limit of 1 point.",
        }
    )
    latency = LimitResult(
        name="latency",
        asked=5.0,
        asked_text="5ms",
        value=5.2,
        lower=4.9,
        upper=5.6,
        verdict="unproved",
        reason="The median is too close to the limit for the noise of this machine.",
    )
    labels = ["ankle boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker"]
    labels += ["t-shirt", "trouser", "hat", "sock"]
    changes = (-0.004, 0.001, -0.052, -0.011, -0.061, 0, -0.118, 0.003, -0.049, 0, 0.012, -0.02)
    drop = source.drop.model_copy(
        update={
            "estimate": 0.031,
            "lower": 0.0242,
            "upper": 0.0381,
            "per_class": tuple(
                ClassChange(label=a, examples=500, original=0.9, artifact=0.9 + b, flips=31)
                for a, b in zip(labels, changes, strict=True)
            ),
        }
    )
    limits = (source.limits[0], latency, loss)
    return minilm(
        limits=limits,
        drop=drop,
        verdict="missed",
        task="clothes",
        warnings=(),
        reasons=tuple(limit.reason for limit in limits),
        artifact=source.artifact.model_copy(update={"score": 0.7447}),
    )

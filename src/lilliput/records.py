"""What was planned, shipped, measured and judged, as values that are written to disk.

Everything here is plain data (pydantic, frozen, unknown fields refused), because `plan.toml`,
`manifest.json` and `report.json` are read back from files a user may have edited.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lilliput.edits import Edits
from lilliput.planned import Planning, Point
from lilliput.record import Record

VerdictWord = Literal["proved", "unproved", "missed"]
LimitName = Literal["storage", "installed", "memory", "latency", "energy", "drop"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Step(Record):
    """One entry of a plan: a technique, its settings, and the sites it applies to."""

    technique: str
    where: tuple[str, ...]
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict)


class Plan(Record):
    """Ordered (technique, where) pairs with predicted cost; settings only, no statistics.

    Attributes:
        schema_version: Format of this record.
        model_hash: SHA-256 over the names and shapes of the parameters: a plan fits every
            checkpoint of the same architecture.
        steps: What to do, in this order.
        predicted_damage: Divergence of the output in the currency, or None when not predicted.
        predicted_storage_bytes: Size of the packed file, or None when not predicted.
        predicted_installed_bytes: Size of the runnable file, likewise.
        predicted_memory_bytes: Bytes resident while it runs on the machine it was planned on.
        predicted_latency_ms: Milliseconds of one call on that machine.
        seed: Seed of everything random.
    """

    schema_version: Literal[1] = 1
    model_hash: str
    steps: tuple[Step, ...]
    predicted_damage: float | None = None
    predicted_storage_bytes: int | None = None
    predicted_installed_bytes: int | None = None
    predicted_memory_bytes: int | None = None
    predicted_latency_ms: float | None = None
    seed: int = 0


class FileEntry(Record):
    """A shipped file: its hash and its size."""

    sha256: str
    bytes: int


class Latency(Record):
    """Latency in milliseconds of one call at the stated batch size and thread count."""

    p50: float
    p95: float
    batch: int
    threads: int


class Sizes(Record):
    """What was measured of one artifact. Unmeasured is None.

    Attributes:
        storage_bytes: Bytes of the packed file (of the original: of its ONNX export).
        installed_bytes: Bytes of the runnable file on disk.
        memory_bytes: Bytes resident while it runs, above the runtime's own.
        latency_ms: Milliseconds of one call.
        score: The metric on the proof examples, from this file's own outputs.
        parameters: Number of weights in the file.
        macs: Multiply-adds of one example.
    """

    storage_bytes: int | None = None
    installed_bytes: int | None = None
    memory_bytes: int | None = None
    latency_ms: Latency | None = None
    score: float | None = None
    parameters: int | None = None
    macs: int | None = None


class LimitResult(Record):
    """A limit, what was measured against it, and the verdict.

    Attributes:
        name: Which limit.
        asked: What was asked, in the limit's unit (bytes, ms, or the metric's unit).
        asked_text: What the user wrote, e.g. ``9%``.
        value: The measured value in the same unit; None when it was not measured.
        lower: Lower end of the 95 % bound; equal to `value` where the measurement is exact.
        upper: Upper end of the 95 % bound.
        verdict: proved: upper <= asked. missed: lower > asked. unproved: between.
        reason: One sentence for a reader who is no expert.
    """

    name: LimitName
    asked: float
    asked_text: str
    value: float | None
    lower: float | None
    upper: float | None
    verdict: VerdictWord
    reason: str


class ClassChange(Record):
    """How one class fared: accuracy (or agreement) within it. None where it was not a number."""

    label: str
    examples: int
    original: float | None
    artifact: float | None
    flips: int


class WorstExample(Record):
    """An example on which the artifact lost most against the original.

    `original` and `artifact` are its scores; None where a file's answer was not a number.
    """

    index: int
    label: str | None
    summary: str
    original: float | None
    artifact: float | None


class Drop(Record):
    """Worsening of the score on the proof examples, with its one-sided bound.

    Attributes:
        estimate: original - artifact where higher is better, artifact - original where lower is.
            In the unit of the limit (relative to the original for unbounded positive metrics).
        upper: One-sided upper bound at `confidence`; None when no bound could be stated.
        lower: One-sided lower bound at `confidence`.
        confidence: e.g. 0.95; smaller steps are spent on repeated looks at the same proof set.
        method: ``score`` (Tango), ``bootstrap``, ``exact`` or ``none``.
        examples: Number of proof examples.
        groups: Number of independent groups among them.
        flips: Examples whose row changed between original and artifact.
        look: The how-manyth look at this proof set it was.
        per_class: Change per class where targets or predictions are classes.
        worst: The examples that lost most.
    """

    metric: str
    higher_is_better: bool
    estimate: float | None
    upper: float | None
    lower: float | None
    confidence: float
    method: str
    examples: int
    groups: int
    flips: int
    look: int
    per_class: tuple[ClassChange, ...] = ()
    worst: tuple[WorstExample, ...] = ()


class SiteReport(Record):
    """What became of one site.

    Attributes:
        bits: Bits per weight in the packed file, side information included.
        bound_bits: Bits per weight of the reverse water-filling bound at the same damage; None
            when it was not computed.
        damage: Measured increase of the layer's squared output error, relative to its output.
        sensitivity: Divergence of the model's output per unit of relative layer damage.
        macs: Multiply-adds of one example.
        clipped: Codes that did not fit and were clipped.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    encoding: str
    bits: float | None
    bound_bits: float | None = None
    original_bytes: int
    storage_bytes: int | None
    damage: float | None
    sensitivity: float | None
    macs: int | None
    clipped: int = 0


class Fidelity(Record):
    """How well the artifact reproduces PyTorch's compressed model, in the default session.

    `decibels` is 10 log10(signal / squared difference) on the search inputs; None means identical.
    """

    decibels: float | None
    largest_difference: float | None
    examples: int


class RuntimeScore(Record):
    """What original and artifact answer in one runtime, on the proof examples.

    Attributes:
        name: ``onnxruntime``, ``openvino``, or ``pytorch`` for the weights-only path.
        version: Of its package; None where it is not known.
        precision: The type in which it computed the float32 parts of the files.
        original_score: The metric of the original's export.
        artifact_score: The metric of the artifact.
        agreement: The artifact's answers here against its answers in the runtime that was judged;
            None for that runtime itself.
        changed: Examples on which the artifact's class is another than there; None without classes.
        problem: Why it could not open or run a file; None where it could.
    """

    name: str
    version: str | None = None
    precision: str | None = None
    original_score: float | None = None
    artifact_score: float | None = None
    agreement: Fidelity | None = None
    changed: int | None = None
    problem: str | None = None


class CorruptedScore(Record):
    """How original and artifact score when their inputs are corrupted, on the same ones.

    Attributes:
        corruption: What the inputs were put through, as an augmentation's text form.
        examples: Number of proof examples it was measured on.
        original_score: The metric of the original's export.
        artifact_score: The metric of the artifact.
        drop: Worsening from the one to the other, in the metric's unit.
        upper: One-sided upper bound at `confidence`; None when no bound could be stated.
        confidence: e.g. 0.95.
    """

    corruption: str
    examples: int
    original_score: float | None
    artifact_score: float | None
    drop: float | None
    upper: float | None
    confidence: float


class FixedPort(Record):
    """Input or output of an integer artifact: ``floor(value * 2**exponent + 1/2)``, clipped."""

    name: str
    type: Literal["int8", "uint8", "int16"]
    exponent: int


class Artifact(Record):
    """The shipped files and where they came from; written as `manifest.json`.

    Attributes:
        files: Name relative to the folder -> hash and size, without the reports.
        kind: ``onnx``, or ``torch`` for the weights-only path (run by PyTorch).
        inputs: Names of the graph inputs, in the order in which the model's inputs flatten.
        outputs: Names of the graph outputs, in the order in which the model's outputs flatten.
        fixed: Inputs and outputs that are integers in the place of floating point; what is not
            named here keeps its type. Empty unless the artifact computes in integers only.
        edits: What gives an instance of the user's class its new shape; None where it kept its own.
    """

    schema_version: Literal[1] = 1
    kind: Literal["onnx", "torch"] = "onnx"
    files: dict[str, FileEntry]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    fixed: tuple[FixedPort, ...] = ()
    edits: Edits | None = None
    plan: Plan
    versions: dict[str, str] = Field(default_factory=dict)


class Measurement(Record):
    """What was measured of the original and of the artifact, interleaved, in fresh processes.

    `runtimes` starts with the runtime that is judged: scores, latency and memory of `original` and
    `artifact` are those of that one, and so are the scores under each corruption.
    """

    original: Sizes
    artifact: Sizes
    source_checkpoint_bytes: int | None = None
    latency_ratio: tuple[float, float, float] | None = None
    memory_ratio: tuple[float, float, float] | None = None
    runtimes: tuple[RuntimeScore, ...] = ()
    generalization: tuple[CorruptedScore, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why the judged runtime could not open or run a file; None where it could."""
        return self.runtimes[0].problem if self.runtimes else None


class Recovery(Record):
    """How the compressed model was trained under its constraints, and whether that was kept.

    Attributes:
        strength: ``light``: scales, biases and norms; ``full``: all weights.
        steps: Updates of the weights.
        seconds: How long it took.
        watched: What search examples were asked for: ``divergence`` from the original's output, or
            the metric's name.
        before: That, before the first step.
        after: That, at the best evaluation.
        kept: Whether the files hold what was learned.
        notes: What the reader should know: why it was not kept, what happened on the way.
    """

    strength: Literal["light", "full"]
    steps: int
    seconds: float
    watched: str
    before: float | None
    after: float | None
    kept: bool
    notes: tuple[str, ...] = ()


class Report(Record):
    """Everything that `report.json` holds. Its JSON schema is `docs/report.schema.json`.

    Attributes:
        schema_: Format of this record; ``schema`` in the file.
        budget: Name of a limit -> what the user wrote.
        task: Name of the task.
        original: Measured sizes and score of the original's ONNX export.
        artifact: Measured sizes and score of the shipped files.
        source_checkpoint_bytes: Size of the checkpoint the user came with.
        limits: Every limit with its verdict.
        drop: Worsening of the score; None when there was nothing to score.
        fidelity: How well the artifact reproduces PyTorch's compressed model.
        runtimes: What the files answer in each installed runtime. The first is the one in which
            score, latency and memory were measured and judged.
        generalization: Scores of both files under each corruption of the inputs, in that runtime;
            they describe and decide about no verdict.
        files: Shipped files, without the reports.
        verdict: The worst of the limits' verdicts: missed, then unproved, then proved.
        summary: The verdict in two or three sentences.
        reasons: Why the verdict is what it is, and what would settle an open one.
        warnings: What the reader should know before trusting the numbers.
        plan: What was done.
        planning: How the plan was found, and how well it was predicted; None where it was given.
        sweep: The points of a sweep, in the order asked for; empty without one.
        recovery: What was learned back; None where that was not asked for.
        sites: What became of each site, in the order of the model.
        splits: Name of a subset (``calibration``, ``search``, ``proof``) -> number of examples.
        looks: Name of a subset -> how often it was used.
        environment: What it ran on: machine, system, versions.
        seconds: Name of a stage -> how long it took.
        command: The exact command that repeats the run.
        seed: Seed of everything random.
    """

    schema_: Literal["lilliput-report/1"] = Field("lilliput-report/1", alias="schema")
    budget: dict[str, str]
    task: str
    original: Sizes
    artifact: Sizes
    source_checkpoint_bytes: int | None
    limits: tuple[LimitResult, ...]
    drop: Drop | None
    fidelity: Fidelity | None
    runtimes: tuple[RuntimeScore, ...] = ()
    generalization: tuple[CorruptedScore, ...] = ()
    files: dict[str, FileEntry]
    verdict: VerdictWord
    summary: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    plan: Plan
    planning: Planning | None = None
    sweep: tuple[Point, ...] = ()
    recovery: Recovery | None = None
    sites: tuple[SiteReport, ...]
    splits: dict[str, int]
    looks: dict[str, int]
    environment: dict[str, str]
    seconds: dict[str, float]
    command: str
    seed: int

    model_config = ConfigDict(populate_by_name=True)  # beside what every record has

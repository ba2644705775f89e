"""How a plan was found, what it was predicted to cost, and the points of a sweep."""

from lilliput.record import Record


class Compared(Record):
    """A plan that was tried while planning.

    Attributes:
        name: ``mixed``, or the technique that all sites got.
        predicted: Damage in the currency.
        divergence: Measured on search examples; None where the output was no number.
    """

    name: str
    predicted: float | None
    divergence: float | None


class Prediction(Record):
    """What was predicted of the chosen plan, and what was measured of it.

    Attributes:
        name: ``divergence`` (in the currency, on search examples), ``storage``, ``installed``,
            ``memory`` (bytes) or ``latency`` (milliseconds).
    """

    name: str
    predicted: float | None
    measured: float | None


class Planning(Record):
    """How the plan was found.

    Attributes:
        stopped: Why planning ended, as the end of a sentence.
        tried: How many plans were tried on search examples.
        compared: The mixture and the uniform plans within the same limits.
        predictions: Of the plan that was chosen.
        pricing_error: Root mean square error of predicted latencies of the variants that were
            measured, as a share; None where latency and memory were not priced.
    """

    stopped: str
    tried: int = 0
    compared: tuple[Compared, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    pricing_error: float | None = None


class Point(Record):
    """One budget of a sweep: what its plan costs, measured on its files and on search examples.

    Attributes:
        name: The storage limit as it was asked for.
        plan: File beside the report that replays it.
        storage_bytes: Bytes of the packed file.
        installed_bytes: Bytes of the runnable file.
        latency_ms: Median call; None where PyTorch runs the weights.
        divergence: How far the output moved on search examples, in the currency.
        predicted_divergence: The same as planned.
        expected_drop: Upper bound of the drop that the proof examples are expected to show.
        on_front: No other point beats it in storage, latency and divergence.
        chosen: This one was shipped, measured and judged.
    """

    name: str
    plan: str
    storage_bytes: int
    installed_bytes: int
    latency_ms: float | None
    divergence: float | None
    predicted_divergence: float | None
    expected_drop: float | None
    on_front: bool = False
    chosen: bool = False

"""The book of a study: which values were tried, by whom, with what result; on disk."""

import hashlib
import json
import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from lilliput.errors import CheckpointError, MissingExtraError, OutputError
from lilliput.learning.material import mixed_seed
from lilliput.learning.tuning.spaces import Open, Range, Value

JOURNAL = "study.jsonl"
_OWNER, _STEPS, _SAME = "owner", "steps", "same_as"


@dataclass(frozen=True)
class Trial:
    """Values that were tried.

    Attributes:
        number: Its place in the study.
        values: By name.
        results: One for each objective; of a trial that ended early, what it had by then; none of
            one that could not learn at all.
        pruned: Whether it ended early.
        steps: Steps done.
    """

    number: int
    values: dict[str, Value]
    results: tuple[float, ...]
    pruned: bool
    steps: int

    @staticmethod
    def key_of(values: Mapping[str, Value]) -> str:
        """A short name of some values."""
        text = json.dumps(dict(values), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Asked:
    """A trial that is going on."""

    def __init__(self, trial: Any, maximize: bool) -> None:
        self._trial, self._maximize = trial, maximize
        self.number: int = trial.number
        self.pruned = False

    @property
    def values(self) -> dict[str, Value]:
        """What was suggested so far."""
        return dict(self._trial.params)

    def suggest(self, name: str, given: Open) -> Value:
        """A value; the same one for the same name."""
        if not isinstance(given, Range):
            found: Value = self._trial.suggest_categorical(name, list(given))
            return found
        if given.whole:
            return int(
                self._trial.suggest_int(name, int(given.low), int(given.high), log=given.log)
            )
        return float(self._trial.suggest_float(name, given.low, given.high, log=given.log))

    def hopeless(self, step: int, score: float | None) -> bool:
        """Notes a score on the way; whether trials before were better at the same step."""
        if score is None or math.isnan(score):
            return False
        self._trial.report(score, step)
        self.pruned = bool(self._trial.should_prune())
        return self.pruned


@dataclass
class Book:
    """A study of Optuna's; see `open_book`."""

    study: Any
    maximize: tuple[bool, ...]
    seed: int
    notes: tuple[str, ...] = ()
    _asked: dict[int, Any] = field(default_factory=dict)

    def done(self) -> tuple[Trial, ...]:
        """Trials that have a result, in their order."""
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name in ("COMPLETE", "PRUNED"):
                found.append(_as_trial(trial))
        return tuple(found)

    def begin(self, defaults: Mapping[str, Value]) -> None:
        """Puts the defaults first; what a killed process was trying comes next."""
        trials = self.study.get_trials(deepcopy=False)
        if not trials:
            self.study.enqueue_trial(dict(defaults))
        for trial in trials:
            if trial.state.name == "RUNNING" and not _alive(trial.user_attrs.get(_OWNER, "")):
                self.study.tell(trial.number, state=_state("FAIL"))
                self.study.enqueue_trial(dict(trial.params))
                self.notes = (*self.notes, f"trial {trial.number} was cut short: tried again")

    def ask(self) -> Asked:
        """The next trial, drawn from those before it."""
        self.study.sampler = self._sampler(len(self.done()))
        trial = self.study.ask()
        trial.set_user_attr(_OWNER, _owner())
        return Asked(trial, self.maximize[0])

    def same(self, asked: Asked) -> Trial | None:
        """A trial before it that had the same values."""
        return next((one for one in self.done() if one.values == asked.values), None)

    def tell(self, asked: Asked, results: Sequence[float], *, pruned: bool, steps: int) -> None:
        """The result of a trial."""
        asked._trial.set_user_attr(_STEPS, steps)
        if pruned or not results or any(math.isnan(one) for one in results):
            self.study.tell(asked.number, state=_state("PRUNED"))
        else:
            self.study.tell(asked.number, list(results))

    def tell_again(self, asked: Asked, known: Trial) -> None:
        """The same values give the same result: it is not worked for twice."""
        asked._trial.set_user_attr(_SAME, known.number)
        self.tell(asked, known.results, pruned=known.pruned, steps=known.steps)

    def best(self) -> Trial | None:
        """The one with the best first objective."""
        whole = [trial for trial in self.done() if not trial.pruned]
        sign = -1 if self.maximize[0] else 1
        return min(whole, key=lambda trial: (sign * trial.results[0], trial.number), default=None)

    def front(self) -> tuple[Trial, ...]:
        """Those that no other one beats in every objective."""
        whole = [trial for trial in self.done() if not trial.pruned]
        costs = {
            trial.number: tuple(
                -value if up else value
                for value, up in zip(trial.results, self.maximize, strict=True)
            )
            for trial in whole
        }

        def beaten(trial: Trial) -> bool:
            own = costs[trial.number]
            return any(
                all(a <= b for a, b in zip(other, own, strict=True)) and other != own
                for other in costs.values()
            )

        return tuple(trial for trial in whole if not beaten(trial))

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import NSGAIISampler, TPESampler

        seed = mixed_seed(self.seed, number)
        if len(self.maximize) > 1:
            return NSGAIISampler(seed=seed, population_size=10)
        return TPESampler(seed=seed)


def open_book(
    *,
    folder: Path,
    storage: str | None,
    name: str,
    maximize: tuple[bool, ...],
    seed: int,
) -> Book:
    """Opens a study, or goes on with one.

    Args:
        folder: Holds the journal, where no other storage is given.
        storage: A storage URL of Optuna.
        name: Of the study.
        maximize: For each objective whether more is better.
        seed: Of what is suggested.

    Raises:
        CheckpointError: The journal is damaged, or the study has other objectives.
        MissingExtraError: optuna is not installed.
        OutputError: The folder may not be written.
    """
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna is not installed", "pip install lilliput[search]")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["maximize" if up else "minimize" for up in maximize]
    try:
        study = optuna.create_study(
            storage=_journal(folder) if storage is None else storage,
            study_name=name,
            directions=directions,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        )
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
    found = [direction.name.lower() for direction in study.directions]
    if found != directions:
        raise CheckpointError(
            f"the study {name} looks for {', '.join(found)}, not {', '.join(directions)}",
            "give another folder or name, or the objectives it was begun with",
        )
    return Book(study, maximize, seed)


def _journal(folder: Path) -> Any:
    """Optuna's journal in a file.

    Raises:
        CheckpointError: A line in its middle is damaged; the file is left as it is.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    lock = JournalFileOpenLock(str(path))
    if path.exists():
        lock.acquire()
        try:
            _check_journal(path)
        finally:
            lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _check_journal(path: Path) -> None:
    """Cuts off a last line that was never finished; refuses a damaged one before it."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError as error:
            raise CheckpointError(
                f"line {number} of {path} is damaged",
                f"the study is whole up to there: keep its first {number - 1} lines to go on",
            ) from error
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))


def _as_trial(trial: Any) -> Trial:
    pruned = trial.state.name == "PRUNED"
    last = trial.intermediate_values
    results = (last[max(last)],) if pruned and last else tuple(trial.values or ())
    return Trial(trial.number, dict(trial.params), results, pruned, trial.user_attrs.get(_STEPS, 0))


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _owner() -> str:
    """This process, so that others can tell whether it still works."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def _alive(owner: str) -> bool:
    """Whether a trial's process still works; one of another machine is believed to."""
    host, _, rest = owner.partition(" ")
    if host != socket.gethostname():
        return bool(owner)
    pid, _, started = rest.partition(" ")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except (psutil.Error, ValueError):
        return False

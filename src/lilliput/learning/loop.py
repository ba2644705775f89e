"""The one training loop: every use of learning goes through `learn`.

It runs on accelerate (mixed precision, several processes). What is random is seeded by the step,
and every step can be named by its number, so that a run which was killed goes on from its last
checkpoint and ends with the same weights as one that was not.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.batches import Batch
from lilliput.errors import InternalError, TrainingError
from lilliput.learning.augmenting.policy import Policy
from lilliput.learning.checkpoints import Checkpoints
from lilliput.learning.learned import Learned, Moment
from lilliput.learning.lesson import Lesson, Targets
from lilliput.learning.machine import Machine
from lilliput.learning.material import Material, mixed_seed
from lilliput.learning.pupil import Pupil, cloned
from lilliput.learning.training import Training
from lilliput.learning.watching import Watch
from lilliput.model.hashes import values_hash
from lilliput.progress import Progress, unseen

PACE = 8  # steps that tell how many go into the minutes given
EVALUATIONS = 10  # of a run, where nothing else is said
ROLLBACKS = 6  # after as many the run is given up
LOWER = 0.5  # what the rate is multiplied with after a rollback


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a run keeps its state, and who is told of it.

    Attributes:
        folder: For checkpoints and logs; None keeps neither.
        progress: Told of every step.
        said: Told every line worth telling.
        stop: Asked after every evaluation, with it; says whether to end here.
    """

    folder: Path | None = None
    progress: Progress = unseen
    said: Callable[[str], None] = unseen
    stop: Callable[[Moment], bool] | None = None


def learn(
    model: nn.Module,
    lesson: Lesson,
    *,
    material: Material,
    training: Training,
    watch: Watch | None = None,
    around: Surroundings | None = None,
) -> Learned:
    """Trains a model in its place: give it a copy.

    Args:
        model: Its parameters that require gradients are trained.
        lesson: What is learned from what.
        material: The examples.
        training: How.
        watch: Scores the copy on search examples; the best one is kept. None keeps the last.
        around: Where state is kept; a run that was interrupted there goes on.

    Raises:
        CheckpointError: The folder holds a checkpoint of another run, or a damaged one.
        MissingExtraError: accelerate, or a logger asked for, is not installed.
        OutputError: A checkpoint cannot be written; the last one is kept.
        TaskError: The model, the loss or the targets do not fit together.
        TrainingError: Nothing can be trained, or the loss is not a number at any rate.
    """
    with _apart():
        return _Run(model, lesson, material, training, watch, around or Surroundings()).run()


@contextmanager
def _apart() -> Iterator[None]:
    """The user's random numbers go on afterwards as if nothing had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class _DivergedError(Exception):
    """The loss or a gradient is not a number."""


@dataclass
class _State:
    """Where a run stands, beside its weights."""

    step: int = 0
    total: int = 0
    factor: float = 1.0
    rollbacks: int = 0
    stale: int = 0
    pace: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


class _Run:
    """One run of the loop."""

    def __init__(
        self,
        model: nn.Module,
        lesson: Lesson,
        material: Material,
        training: Training,
        watch: Watch | None,
        around: Surroundings,
    ) -> None:
        self.lesson, self.material, self.training = lesson, material, training
        self.watch, self.around = watch, around
        self.machine = Machine(training, around.folder)
        self.checkpoints = None
        if around.folder is not None:
            self.checkpoints = Checkpoints(around.folder, self._named(model))
        self.pupil = Pupil(model, extra=lesson.extra(), training=training, machine=self.machine)
        self.size = training.batch_size * training.accumulate
        self.policy = Policy.parse(training.augmentation)
        self.state = _State(notes=list(material.notes))
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.kept: dict[str, Any] = {}
        self.best: dict[str, Tensor] = {}
        self.resumed = 0

    def run(self) -> Learned:
        """From the last checkpoint, or the beginning, to the end."""
        if not self._resume():
            self._begin()
        while self.state.step < self.state.total and not self._enough():
            try:
                self._step()
            except _DivergedError as error:
                self._roll_back(str(error))
                continue
            done, total = self.state.step, self.state.total
            self.around.progress(self.lesson.use, done, total)
            if done % self._every == 0 or done == total:
                if self.pupil.finite:
                    if self._evaluate():
                        break
                else:
                    self._roll_back("a weight was not a number")
        return self._end()

    def _begin(self) -> None:
        first = Moment(0, None, self._score(), 0.0)
        self.state.history.append(asdict(first))
        self._keep_if_best(first)
        self.state.total = self.training.total(self.material.per_epoch(self.size)) or 0
        self.kept = self._snapshot()
        if self.training.minutes is not None:
            total = self._paced(self.training.minutes)
            self.state.total = total
            self.kept = self._snapshot()

    def _paced(self, minutes: float) -> int:
        """How many steps fit, from a few that are undone afterwards."""
        self.state.total = PACE * 1000  # of which the first are slow and small
        try:
            for _ in range(PACE):
                self._step()
        except _DivergedError:
            pass  # the run itself will meet it and lower its rate
        pace = median(self.seconds or [1.0])
        started = time.perf_counter()
        self._score()
        watched = (EVALUATIONS + 1) * (time.perf_counter() - started)
        self._restore(self.kept)
        self.seconds.clear()
        seconds = self.machine.agreed(max(minutes * 60 - watched, 0.1 * minutes * 60) / pace)
        return max(1, int(seconds))

    @property
    def _every(self) -> int:
        return self.training.every or max(1, math.ceil(self.state.total / EVALUATIONS))

    def _step(self) -> None:
        """One update of the weights.

        Raises:
            _DivergedError: Loss or gradient is not a number; the weights are as they were.
        """
        started = time.perf_counter()
        state, training = self.state, self.training
        seed = mixed_seed(training.seed, state.step, self.machine.rank)
        self.machine.seed(seed)
        self.lesson.before(self.pupil.plain, state.step / state.total)
        still = state.step >= training.freeze_norms * state.total
        self.pupil.begin_step(self._rate(state.step), still_norms=still)
        loss = self._backward(seed)
        if training.clip and not math.isfinite(self.pupil.clipped(training.clip)):
            raise _DivergedError("a gradient was not a number")
        self.pupil.end_step()
        state.step += 1
        self.losses.append(loss)
        self.seconds.append(time.perf_counter() - started)

    def _rate(self, step: int) -> float:
        return self.training.rate_at(step, self.state.total) * self.state.factor

    def _backward(self, seed: int) -> float:
        """Gradients of the mean loss over the step's examples, and that loss."""
        examples = self.material.examples(self.state.step, size=self.size, seed=self.training.seed)
        own = examples[self.machine.rank :: self.machine.ranks]
        if not own:
            raise TrainingError(
                f"{len(examples)} examples are too few for {self.machine.ranks} processes"
            )
        batches = list(self.material.batches(own, self.training.batch_size))
        mean = 0.0
        for place, batch in enumerate(batches):
            last = place == len(batches) - 1
            share = len(batch) / len(examples)
            with nullcontext() if last else self.machine.no_sync(self.pupil.model):
                loss = self._loss(batch, mixed_seed(seed, place))
                self.machine.backward(loss * (share * self.machine.ranks))
            mean += float(loss.detach()) * share
        mean = self.machine.summed(mean)
        if not math.isfinite(mean):
            raise _DivergedError("the loss was not a number")
        return mean

    def _loss(self, batch: Batch, seed: int) -> Tensor:
        batch, targets = self._augmented(self.machine.moved(batch), seed)
        return self.lesson.loss(self.pupil.model, batch, targets=targets)

    def _augmented(self, batch: Batch, seed: int) -> tuple[Batch, Targets]:
        """What is learned from a batch, by a seed of its own, so that any step can be repeated."""
        if not self.policy.steps:
            return batch, ((batch.targets, 1.0),)
        generator = torch.Generator().manual_seed(seed)
        changed = self.policy(batch.inputs, batch.targets, generator=generator)
        mask = self.material.task.mask_of(changed.inputs)
        return replace(batch, inputs=changed.inputs, mask=mask), changed.targets

    def _evaluate(self) -> bool:
        """Scores, keeps, checkpoints; whether somebody asks for an end."""
        state = self.state
        mean = float(np.mean(self.losses)) if self.losses else None
        self.losses.clear()
        state.pace = median(self.seconds or [state.pace])
        moment = Moment(state.step, mean, self._score(), self._rate(state.step - 1))
        state.history.append(asdict(moment))
        state.stale = 0 if self._keep_if_best(moment) else state.stale + 1
        self.kept = self._snapshot()
        if self.checkpoints is not None and self.machine.first:
            self.checkpoints.save(self.kept)
        self.machine.log({"loss": mean, "score": moment.score, "rate": moment.rate}, state.step)
        return bool(self.around.stop and self.around.stop(moment))

    def _enough(self) -> bool:
        patience, state = self.training.patience, self.state
        return patience is not None and state.stale >= patience

    def _score(self) -> float | None:
        return None if self.watch is None else self.watch(self.pupil.shown)

    def _keep_if_best(self, moment: Moment) -> bool:
        if self.watch is None:
            self.state.best = asdict(moment)
            return True
        known = self.state.best
        than = None if known is None else known["score"]
        if moment.score is None or not self.watch.better(moment.score, than):
            return False
        self.state.best = asdict(moment)
        self.best = cloned(self.pupil.shown.state_dict())
        return True

    def _roll_back(self, reason: str) -> None:
        state = self.state
        rollbacks, factor, step = state.rollbacks + 1, state.factor * LOWER, state.step
        if rollbacks > ROLLBACKS:
            raise TrainingError(
                f"training was given up: {reason} at step {step}, even at {factor:.3g} of the rate",
                f"lower rate, now {self.training.rate:g}, or give clip=1.0",
            )
        self._restore(self.kept)
        self.state.rollbacks, self.state.factor = rollbacks, factor
        note = f"{reason} at step {step}: back to step {self.state.step}, at {factor:g} of the rate"
        self.state.notes.append(note)
        self.around.said(note)
        self.kept = self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        return {**self.pupil.snapshot(), "best": self.best, "state": asdict(self.state)}

    def _restore(self, found: Mapping[str, Any]) -> None:
        self.pupil.restore(found)
        self.best = found["best"]
        state = found["state"]
        self.state = _State(**{**state, **{n: list(state[n]) for n in ("history", "notes")}})
        self.losses.clear()

    def _resume(self) -> bool:
        if self.checkpoints is None:
            return False
        found, note = self.checkpoints.load()
        if found is None:
            return False
        self._restore(found)
        self.kept = found
        self.resumed = self.state.step
        for line in (note, f"went on from step {self.resumed} of {self.state.total}"):
            if line:
                self.around.said(line)
        return True

    def _end(self) -> Learned:
        self.machine.close()
        state = self.state
        if self._enough() and state.step < state.total:
            early = f"ended after {state.step} of {state.total} steps: no better score in "
            state.notes.append(f"{early}{state.stale} evaluations")
        model = self.pupil.ended()
        if self.watch is not None and self.best:
            model.load_state_dict(self.best)
        history = tuple(Moment(**one) for one in state.history)
        return Learned(
            model=model.eval(),
            training=replace(self.training, epochs=None, minutes=None, steps=state.total),
            history=history,
            best=Moment(**state.best) if state.best else history[-1],
            steps=state.step,
            notes=tuple(state.notes),
            seconds_per_step=state.pace,
            resumed=self.resumed,
        )

    def _named(self, model: nn.Module) -> dict[str, str]:
        """What tells this run from others."""
        settings = {name: v for name, v in asdict(self.training).items() if name != "loggers"}
        if twice := settings.keys() & self.lesson.described().keys():
            raise InternalError(f"{', '.join(twice)} would tell two things of one run")
        found = {
            "model": values_hash(model),
            "examples": len(self.material),
            **self.lesson.described(),
            **settings,
        }
        return {name: str(value) for name, value in found.items()}

"""`tune`: which settings and which structure learn best, found by trying.

Optuna suggests what to try (Akiba et al. 2019, arXiv 1907.10902). Every trial is drawn with a seed
of its own from those before it, so that a study which was killed goes on as if it had not been.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from lilliput.errors import TrainingError
from lilliput.learning.checkpoints import forget
from lilliput.learning.finetuning import finetune
from lilliput.learning.learned import Learned, Moment
from lilliput.learning.loop import Surroundings
from lilliput.learning.training import LENGTHS, Training
from lilliput.learning.tuning.costs import installed_bytes, latency_ms
from lilliput.learning.tuning.spaces import Open, Range, Space, Value, asking
from lilliput.learning.tuning.study import Book, Trial, open_book
from lilliput.task import Task
from lilliput.usercode import users_code
from lilliput.validation import check_task

Objective = Literal["score", "size", "latency"]

HOPELESS = 3  # trials without any result, after which a study is given up
SPACE: Space = {
    "rate": Range(1e-4, 1e-1, log=True),
    "batch_size": (32, 64, 128),
    "optimizer": ("adamw", "sgd"),
    "weight_decay": Range(1e-5, 1e-1, log=True),
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """How one looks for the best values.

    Attributes:
        space: Name -> what its value is drawn from, a `Range` or a tuple of options; fields of
            `Training`, and what else the use takes.
        trials: Trials in all, those of earlier runs of the study included; at least 1.
        objectives: What shall be good: the ``score`` on search examples; ``size``, bytes of the
            exported file; ``latency``, milliseconds of one example in ONNX Runtime. Several give a
            front (NSGA-II: Deb et al. 2002).
        prune: Whether trials that are worse than the median of those before, at the same step, end
            early; with one objective only.
        storage: Any storage URL of Optuna, for a team; by default a journal in a folder.
        name: Of the study, where a storage holds several.
        seed: Of what is suggested.

    Raises:
        TrainingError: A value is out of range.
    """

    space: Space = field(default_factory=lambda: SPACE)
    trials: int = 20
    objectives: tuple[Objective, ...] = ("score",)
    prune: bool = True
    storage: str | None = None
    name: str = "lilliput"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_space(self.space)
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise TrainingError(
                f"trials = {self.trials!r} is out of range", "allowed is [1, inf), the nearest is 1"
            )
        known = get_args(Objective)
        wrong = [name for name in self.objectives if name not in known]
        if wrong or not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise TrainingError(
                f"objectives {', '.join(self.objectives) or 'are missing'}",
                f"each one of {', '.join(known)}, once",
            )


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        best: The best trial; of several objectives the one with the best score.
        front: Trials that no other one beats in every objective; with one objective the best.
        trials: All of them, in their order.
        training: The best trial's settings of the loop.
        learned: What the best trial learned.
        resumed: Trials of earlier runs of the study.
        notes: What the user should know.
    """

    best: Trial
    front: tuple[Trial, ...]
    trials: tuple[Trial, ...]
    training: Training
    learned: Learned
    resumed: int
    notes: tuple[str, ...] = ()


def tune(
    task: Task,
    *,
    study: Study | None = None,
    training: Training | None = None,
    build: Callable[[], nn.Module] | None = None,
    using: Callable[..., Learned] = finetune,
    around: Surroundings | None = None,
) -> Tuned:
    """Tries values, each as long as `training` says, and keeps what scores best.

    The first trial has the default values, so that what is found is never worse on search examples.

    Args:
        task: With training examples, search examples and a metric.
        study: What is tuned, what is good, how many trials.
        training: What is not in the space, and how long each trial learns.
        build: Makes a fresh model, with `lilliput.choice` for what is open; by default every trial
            begins with the task's model.
        using: What learns in a trial: `finetune`, `distill`, or a function of one's own with the
            same arguments; values that are no fields of `Training` are passed on to it.
        around: Folder that keeps the study (a journal, see `Book`) and the checkpoints of its
            trials, so that it goes on after an interruption; and who is told.

    Raises:
        CheckpointError: The study's file is damaged, or it is of another study.
        MissingExtraError: optuna is not installed.
        TaskError: The task or the model built do not fit together.
        TrainingError: The space or the study is wrong.
    """
    training, study, around = training or Training(), study or Study(), around or Surroundings()
    metric = check_task(task)
    if metric is None:
        raise TrainingError("tuning needs search examples", "give Task(examples=...)")
    with ExitStack() as held:
        folder = around.folder or Path(held.enter_context(tempfile.TemporaryDirectory()))
        tuner = _Tuner(task, study, training, build, using, replace(around, folder=folder))
        book = open_book(
            folder=folder,
            storage=study.storage,
            name=study.name,
            maximize=tuple(o == "score" and metric.higher_is_better for o in study.objectives),
            seed=study.seed,
        )
        resumed = len(book.done())
        book.begin(tuner.defaults())
        while (count := len(book.done())) < study.trials:
            around.progress("tune", count, study.trials)
            tuner.try_one(book)
        around.progress("tune", study.trials, study.trials)
        return tuner.result(book, resumed)


@dataclass(frozen=True)
class _Tuner:
    """The trials of one study."""

    task: Task
    study: Study
    training: Training
    build: Callable[[], nn.Module] | None
    using: Callable[..., Learned]
    around: Surroundings

    def defaults(self) -> dict[str, Value]:
        """What the first trial has: the values one would have without tuning."""
        found: dict[str, Value] = {}
        for name, given in self.study.space.items():
            usual = getattr(self.training, name, None)
            if usual is not None and usual in given:
                found[name] = usual

        def noted(name: str, given: Open, default: Value) -> Value:
            found[name] = default
            return default

        with asking(noted):
            self._model()
        return found

    def try_one(self, book: Book) -> None:
        """Asks for values, learns with them, tells what came of it."""
        asked = book.ask()
        values = {name: asked.suggest(name, given) for name, given in self.study.space.items()}
        with asking(lambda name, given, default: asked.suggest(name, given)):
            model = self._model()
        known = book.same(asked)
        if known is not None:
            book.tell_again(asked, known)
            return
        folder = self._folder_of(asked.values)
        single = len(self.study.objectives) == 1

        def stop(moment: Moment) -> bool:
            return single and self.study.prune and asked.hopeless(moment.step, moment.score)

        try:
            learned = self._learn(model, values, around=Surroundings(folder=folder, stop=stop))
        except TrainingError as error:
            if book.best() is None and len(book.done()) + 1 >= HOPELESS:
                raise  # not the values' fault
            book.tell(asked, (), pruned=True, steps=0)
            forget(folder)
            self.around.said(f"trial {asked.number}: {error.message}")
            return
        ended = learned.history[-1].step
        pruned = asked.pruned and ended < learned.training.steps  # type: ignore[operator]
        results = tuple(self._result(name, learned) for name in self.study.objectives)
        before = book.best()
        book.tell(asked, results, pruned=pruned, steps=learned.steps)
        after = book.best()
        self._keep_only(after.values if after else None, among=(before, asked.values))
        self.around.said(f"trial {asked.number}: {_told(self.study.objectives, results, pruned)}")

    def result(self, book: Book, resumed: int) -> Tuned:
        """The best trial, and what it learned."""
        best = book.best()
        if best is None:
            raise TrainingError("no trial came to its end", "lower rate in the space")
        with asking(lambda name, given, default: best.values[name]):
            model = self._model()
        values = {name: best.values[name] for name in self.study.space}
        around = Surroundings(folder=self._folder_of(best.values))
        learned = self._learn(model, values, around=around)
        own = _of_training(values)
        return Tuned(
            best=best,
            front=book.front(),
            trials=book.done(),
            training=replace(self.training, **own),
            learned=learned,
            resumed=resumed,
            notes=book.notes,
        )

    def _learn(
        self, model: nn.Module, values: Mapping[str, Value], *, around: Surroundings
    ) -> Learned:
        own = _of_training(values)
        others = {name: value for name, value in values.items() if name not in own}
        return self.using(
            replace(self.task, model=model),
            training=replace(self.training, **own),
            around=around,
            **others,
        )

    def _model(self) -> nn.Module:
        if self.build is None:
            return copy.deepcopy(self.task.model)
        with users_code("build"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            model = self.build()
        if not isinstance(model, nn.Module):
            raise TrainingError(f"build returned a {type(model).__name__}, not a model")
        return model

    def _result(self, objective: Objective, learned: Learned) -> float:
        if objective == "score":
            score = learned.best.score
            return float("nan") if score is None else score
        measure = {"size": installed_bytes, "latency": latency_ms}[objective]
        return measure(learned.task(self.task))

    @property
    def _home(self) -> Path:
        return self.around.folder or Path()

    def _folder_of(self, values: Mapping[str, Value]) -> Path:
        return self._home / "trials" / Trial.key_of(values)

    def _keep_only(
        self, best: Mapping[str, Value] | None, *, among: tuple[Trial | None, Mapping[str, Value]]
    ) -> None:
        """Checkpoints of trials that are not the best one any more go."""
        before, last = among
        for values in (before.values if before else None, last):
            if values is not None and values != best:
                forget(self._folder_of(values))


_OWN = tuple(field.name for field in fields(Training))


def _of_training(values: Mapping[str, Value]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in _OWN}


def _check_space(space: Space) -> None:
    """Refuses values that no setting can have, before hours are spent."""
    for name, given in space.items():
        if name in LENGTHS:
            raise TrainingError(f"{name} cannot be tuned", "every trial learns equally long")
        if name not in _OWN:
            close = get_close_matches(name, _OWN, n=1)
            if close and close[0].replace("_", "") == name.replace("_", ""):
                raise TrainingError(f"there is no setting {name!r}", f"the nearest is {close[0]}")
            continue
        for value in (given.low, given.high) if isinstance(given, Range) else given:
            Training(**{name: value})  # type: ignore[arg-type]


def _told(objectives: tuple[Objective, ...], results: tuple[float, ...], pruned: bool) -> str:
    told = ", ".join(f"{o} {r:.6g}" for o, r in zip(objectives, results, strict=True))
    return f"{told}, ended early" if pruned else told

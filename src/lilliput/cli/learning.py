"""``lilliput finetune`` and ``tune``: a model learns on, and what it becomes is written down."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from lilliput.cli.app import app
from lilliput.cli.options import NO_TASK, FolderOptions, TaskOptions
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from lilliput.learning import Reach, Study, Training, Tuned
    from lilliput.lessons import Taught

TRAINING = Group("Training", sort_key=2)
REACH = Group("What learns", sort_key=2)
STUDY = Group("Study", sort_key=2)


@Parameter(name="*", group=TRAINING)
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How one learns; what is not given is as `lilliput.Training` has it."""

    epochs: float | None = None
    """Passes over the training examples."""
    steps: int | None = None
    """Updates of the weights, instead of epochs."""
    minutes: float | None = None
    """How long, instead of epochs."""
    batch_size: int | None = None
    """Examples that go through the model together."""
    accumulate: int | None = None
    """Batches whose gradients make up one step."""
    optimizer: str | None = None
    """One of torch's, in small letters: adamw, sgd."""
    rate: float | None = None
    """Learning rate at its highest."""
    momentum: float | None = None
    """Of sgd and rmsprop."""
    weight_decay: float | None = None
    """Decay of weights with two axes and more."""
    layer_decay: float | None = None
    """What the rate of a layer is multiplied with per layer behind it."""
    schedule: Literal["constant", "linear", "cosine"] | None = None
    """How the rate falls."""
    warmup: float | None = None
    """Share of the steps over which the rate rises."""
    clip: float | None = None
    """Largest norm of the gradient; 0 for any."""
    average: float | None = None
    """Decay of the weights' exponential average."""
    freeze_norms: float | None = None
    """Share of the steps after which BatchNorm's statistics stand still."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Arithmetic of the forward pass."""
    every: int | None = None
    """Steps between two evaluations."""
    patience: int | None = None
    """Evaluations without a better score after which it stops."""
    seed: int | None = None
    """Seed of everything random."""
    device: Literal["cpu", "auto"] | None = None
    """Where it learns."""
    augmentation: str | None = None
    """What batches go through first: "crop, rotate, mixup"; see `lilliput augmentations`."""
    loggers: str | None = None
    """Who else is told: tensorboard, mlflow, or both with a comma."""
    settings: Path | None = None
    """A training.toml of an earlier run, for what is not given here."""

    def training(self) -> "Training":
        """The settings they ask for."""
        from lilliput.learning import Training
        from lilliput.learning.training import LENGTHS

        given: dict[str, Any] = {n: v for n, v in asdict(self).items() if v is not None}
        if "loggers" in given:
            given["loggers"] = tuple(part.strip() for part in given["loggers"].split(","))
        path = given.pop("settings", None)
        if path is None:
            return Training(**given)
        read = Training.read(path).settings
        if set(LENGTHS) & set(given):
            read = {name: value for name, value in read.items() if name not in LENGTHS}
        return Training(**(read | given))


@Parameter(name="*", group=REACH)
@dataclass(frozen=True, kw_only=True)
class ReachOptions:
    """How much of the model learns."""

    part: str | None = None
    """all, head, last, adapters, or names of modules with commas."""
    last: int | None = None
    """With --part last: how many blocks."""
    rank: int | None = None
    """With --part adapters: their rank."""
    scale: float | None = None
    """With --part adapters: what their product is multiplied with."""

    def reach(self) -> "Reach":
        """The reach they ask for."""
        from lilliput.learning import Reach

        return Reach(**{name: v for name, v in asdict(self).items() if v is not None})


@Parameter(name="*", group=STUDY)
@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """How one looks for the best values."""

    space: str | None = None
    """What is tried: "rate=1e-4..1e-1 log, batch_size=32|64, optimizer=adamw|sgd"."""
    trials: int | None = None
    """Trials in all, those of an interrupted run included."""
    objectives: str | None = None
    """What shall be good: score, size, latency, with commas."""
    build: str | None = None
    """FILE.py:NAME of a function that makes the model, with lilliput.choice for what is open."""
    storage: str | None = None
    """Any storage URL of Optuna, for a team; a journal beside the output folder by itself."""
    name: str | None = None
    """Name of the study in that storage."""
    prune: Annotated[bool | None, Parameter(negative="--no-prune", show_default=False)] = None
    """End trials early that are worse than the median of others."""

    def study(self) -> "Study":
        """The study they ask for."""
        from lilliput.learning import Study
        from lilliput.learning.tuning.spaces import parse_space

        given: dict[str, Any] = {n: v for n, v in asdict(self).items() if v is not None}
        given.pop("build", None)
        if "space" in given:
            given["space"] = parse_space(given["space"])
        if "objectives" in given:
            given["objectives"] = tuple(one.strip() for one in given["objectives"].split(","))
        return Study(**given)

    def builder(self) -> "Callable[[], nn.Module] | None":
        """The function that makes the model."""
        from lilliput.sources import model_from_spec

        if self.build is None:
            return None
        model_from_spec(self.build)  # refused before anything else is done
        return partial(model_from_spec, self.build)


NO_STUDY = StudyOptions()
NO_TRAINING = TrainingOptions()
NO_REACH = ReachOptions()


@app.command
def finetune(
    target: str,
    /,
    *,
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    training: TrainingOptions = NO_TRAINING,
    reach: ReachOptions = NO_REACH,
    classes: Annotated[int | None, Parameter(group=REACH)] = None,
) -> None:
    """Train a model on: all of it, its head, its last blocks, or adapters beside its weights.

    Args:
        target: A task file (task.py) with training examples.
        classes: A new head for so many classes first.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 3)
        from lilliput.lessons import finetune_task
        from lilliput.reshaping import Output

        found = finetune_task(
            task.task(target),
            Output(folder.out, folder.force, screen.progress),
            training=training.training(),
            reach=reach.reach(),
            classes=classes,
            said=screen.said,
        )
    show_taught(screen, found, out=folder.out)


@app.command
def tune(
    target: str,
    /,
    *,
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    training: TrainingOptions = NO_TRAINING,
    study: StudyOptions = NO_STUDY,
) -> None:
    """Try settings, and structures that a model leaves open; keep what scores best.

    Args:
        target: A task file (task.py) with training examples.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 3)
        from lilliput.lessons import tune_task
        from lilliput.reshaping import Output

        taught, tuned = tune_task(
            task.task(target),
            Output(folder.out, folder.force, screen.progress),
            study=study.study(),
            training=training.training(),
            build=study.builder(),
            said=screen.said,
        )
    _show_tuned(screen, taught, tuned, out=folder.out)


def _show_tuned(screen: Screen, taught: "Taught", tuned: "Tuned", *, out: Path) -> None:
    from lilliput.stages.wording import number

    lines = [
        f"{out}: the best of {len(tuned.trials)} trials, number {tuned.best.number}",
        *(f"{name} = {value}" for name, value in tuned.best.values.items()),
        *(f"not beaten: trial {one.number}, {_results(one.results)}" for one in tuned.front),
        f"score on search examples: {number(tuned.learned.best.score or 0.0)}",
        *tuned.notes,
        *taught.notes,
        f"lilliput finetune ... --settings {out}/training.toml learns with these settings,",
        f"lilliput compress ... --recover settings={out}/training.toml puts them into the plan",
    ]
    found = {name: asdict(value) for name, value in (("taught", taught), ("best", tuned.best))}
    trials = {"trials": [asdict(one) for one in tuned.trials]}
    front = {"front": [one.number for one in tuned.front], "resumed": tuned.resumed}
    screen.show("\n".join(lines), found | trials | front)


def _results(results: tuple[float, ...]) -> str:
    return ", ".join(f"{one:.6g}" for one in results)


def show_taught(screen: Screen, found: "Taught", *, out: Path) -> None:
    """The score before and after, and the files."""
    from lilliput.stages.wording import count, number, size

    first = found.history[0].score
    lines = [
        f"{out}: {count(found.parameters[1])} parameters, {count(found.steps)} steps of "
        f"{1000 * found.seconds_per_step:.3g} ms",
        *(f"{name}: {size(held)}" for name, held in found.files.items()),
    ]
    if first is not None and found.best.score is not None:
        lines.append(
            f"score on search examples: {number(first)} before, {number(found.best.score)} after "
            f"{count(found.best.step)} steps"
        )
    lines += found.notes
    lines.append(
        f'lilliput.load("{out}", model=...) gives your class these weights'
        if found.reloads
        else "your class cannot take this shape: model.onnx runs it"
    )
    screen.show("\n".join(lines), asdict(found))

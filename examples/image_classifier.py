"""The life of a small image classifier: tuned, augmented, pruned, quantized, distilled, compressed.

The "cats and dogs" of Fashion-MNIST are pullovers and coats, which look alike. Run it with
``python examples/image_classifier.py``: each stage's figures are measured on its own file, as it
would be shipped, and go into one page, out/image_classifier/story.html. A run that was interrupted
goes on: a finished stage is not done again, and a stage half done goes on from its last checkpoint.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import lilliput
from lilliput.learning.lesson import Supervised
from lilliput.learning.material import material_of
from lilliput.learning.step_costs import step_bytes
from lilliput.model.hashes import model_hash
from lilliput.records import Plan, Report
from lilliput.runs import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.fashion_mnist import LABELS, Pictures, read
from examples.story_page import write_page

OUT = Path("out/image_classifier")
PAIR = ("pullover", "coat")
SEARCH, CALIBRATION = 1_000, 400
POLICY = "flip, crop(padding=2)"


@dataclass(frozen=True)
class Size:
    """How long the stages learn."""

    pictures: int = 12_000
    trials: int = 8
    tuning: float = 1.0
    epochs: float = 4.0


@dataclass(frozen=True)
class Figures:
    """What one stage's file costs and is worth, and what a step of its training took.

    `score` is accuracy on the proof pictures, between `low` and `high` with 95 %; seconds and
    bytes are those of one training step, None where nothing was trained.
    """

    stage: str
    told: str
    storage: int
    latency_ms: float
    score: float
    low: float
    high: float
    step_ms: float | None
    step_bytes: int | None
    verdict: str


def build() -> nn.Module:
    """(N, 1, 28, 28) -> (N, 2): convolutions whose number and form are open."""
    width = lilliput.choice("width", 8, 16, 24, default=16)
    depth = lilliput.choice("depth", lilliput.Range(2, 3), default=2)
    kernel = lilliput.choice("kernel", 3, 5)
    kind = {"relu": nn.ReLU, "silu": nn.SiLU}[lilliput.choice("activation", "relu", "silu")]
    layers: list[nn.Module] = []
    inputs = 1
    for level in range(depth):
        outputs = width * 2**level
        conv = nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), kind()]
        inputs = outputs
    side = 28
    for _ in range(depth):
        side = -(-side // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side * side, 2))


def pair_of(pictures: Pictures, most: int | None = None) -> Pictures:
    """Only pullovers (0) and coats (1)."""
    wanted = torch.tensor([LABELS.index(name) for name in PAIR])
    chosen = torch.isin(pictures.labels, wanted).nonzero().flatten()[:most]
    labels: Tensor = (pictures.labels[chosen] == wanted[1]).long()
    return Pictures(pictures.pixels[chosen], labels)


def task_of(model: nn.Module, size: Size) -> lilliput.Task:
    """The task over one model: the 2,000 test pictures prove."""
    pictures = pair_of(read("train"), size.pictures)
    end = len(pictures) - SEARCH - CALIBRATION
    return lilliput.Task(
        model=model,
        metric="accuracy",
        train=pictures.part(0, end),
        search=pictures.part(end, end + SEARCH),
        calibration=pictures.part(end + SEARCH, len(pictures)),
        proof=pair_of(read("t10k")),
        label_names=PAIR,
        name="pullover or coat",
    )


class Story:
    """The stages, one after the other, in a folder that keeps what is done."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size
        self.settings = Settings(force=True, ledger=folder / "looks.json")

    def tell(self) -> list[Figures]:
        """All stages; the page is written anew after each."""
        told: list[Figures] = []

        def stage(name: str, work: Callable[[Path], Figures]) -> None:
            folder = self.folder / name
            known = folder / "figures.json"
            if known.exists():
                told.append(Figures(**json.loads(known.read_text())))
            else:
                print(f"{name} ...", flush=True)
                folder.mkdir(parents=True, exist_ok=True)
                told.append(work(folder))
                known.write_text(json.dumps(asdict(told[-1]), indent=1))
            print(_line(told[-1]), flush=True)
            write_page([asdict(one) for one in told], self.folder / "story.html")

        stage("tuned", self.tuned)
        stage("augmented", self.augmented)
        stage("pruned", self.pruned)
        stage("quantized", self.quantized)
        stage("larger", self.larger)
        stage("student", self.student)
        stage("compressed", self.compressed)
        return told

    def tuned(self, folder: Path) -> Figures:
        """Rate, width, depth, kernel and activation, by trying."""
        space = {"rate": lilliput.Range(1e-3, 2e-2, log=True)}
        study = lilliput.Study(space=space, trials=self.size.trials)
        found = lilliput.tune(
            self.task(build()),
            study=study,
            build=build,
            training=lilliput.Training(epochs=self.size.tuning),
            around=lilliput.Surroundings(folder=folder / "study"),
        )
        values = ", ".join(
            f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in found.best.values.items()
        )
        return self.figures(folder, found.learned, f"best of {len(found.trials)} trials: {values}")

    def augmented(self, folder: Path) -> Figures:
        """The same network, trained longer on pictures that vary."""
        training = lilliput.Training(epochs=self.size.epochs, rate=3e-3, augmentation=POLICY)
        found = lilliput.finetune(
            self.task(self.model("tuned")), training=training, around=_within(folder)
        )
        return self.figures(folder, found, f"trained on with {POLICY}")

    def pruned(self, folder: Path) -> Figures:
        """Three quarters of the weights removed while the rest learns."""
        training = lilliput.Training(epochs=self.size.epochs, rate=2e-3)
        found = lilliput.prune(
            self.task(self.model("augmented")),
            lilliput.Pruning(remove=0.75),
            training=training,
            around=_within(folder),
        )
        told = f"{found.removed:.0%} of the weights removed, gradually"
        return self.figures(folder, found.learned, told)

    def quantized(self, folder: Path) -> Figures:
        """Four bits for every weight, learned so."""
        recover = lilliput.Recover(epochs=self.size.epochs / 2, strength="full")
        report = lilliput.quantize_aware(
            self.task(self.model("pruned")),
            lilliput.Budget(drop="2%"),
            out=folder / "file",
            bits=4,
            settings=replace(self.settings, recover=recover),
        )
        return self.noted(folder, report, "4 bits a weight, trained so (drop: against the pruned)")

    def larger(self, folder: Path) -> Figures:
        """A teacher: the augmented network twice as wide, with the same answers, trained on."""
        grown = lilliput.grow(
            self.model("augmented"), self.task(build()).sample(2), width=2.0, noise=0.01
        )
        training = lilliput.Training(epochs=self.size.epochs, rate=1e-3, augmentation=POLICY)
        found = lilliput.finetune(self.task(grown), training=training, around=_within(folder))
        return self.figures(folder, found, "twice as wide as the augmented, trained on")

    def student(self, folder: Path) -> Figures:
        """A quarter of the teacher's width, taught by it."""
        training = lilliput.Training(epochs=2 * self.size.epochs, rate=3e-3)
        found = lilliput.distill(
            self.task(self.model("larger")),
            student=0.25,
            losses=lilliput.Logits(temperature=2.0, targets=0.5),
            training=training,
            around=_within(folder),
        )
        return self.figures(folder, found, "a quarter of the larger one's width, distilled from it")

    def compressed(self, folder: Path) -> Figures:
        """The student in a tenth of its bytes, its codes squeezed while they learn."""
        recover = lilliput.Recover(epochs=2 * self.size.epochs, strength="full", squeeze=True)
        report = lilliput.compress(
            self.task(self.model("student")),
            lilliput.Budget(storage="15%", drop="1%"),
            out=folder / "file",
            settings=replace(self.settings, recover=recover),
        )
        return self.noted(folder, report, "the student in 15 % of its bytes")

    def task(self, model: nn.Module) -> lilliput.Task:
        """The task over a model."""
        return task_of(model, self.size)

    def model(self, stage: str) -> nn.Module:
        """What a stage has trained."""
        model: nn.Module = torch.load(self.folder / stage / "model.pt", weights_only=False)
        return model

    def figures(self, folder: Path, found: lilliput.Learned, told: str) -> Figures:
        """Measures a trained model as a file of its own: the plan is to change nothing."""
        torch.save(found.model, folder / "model.pt")
        task = self.task(found.model)
        nothing = Plan(model_hash=model_hash(found.model), steps=())
        report = lilliput.apply_plan(
            nothing, task, lilliput.Budget(drop="1%"), out=folder / "file", settings=self.settings
        )
        material = material_of(task, split=task.split(0), labelled=True, use="a step")
        held = step_bytes(found.model, Supervised(task), material=material, training=found.training)
        known = self.noted(folder, report, told)
        step = 1000 * found.seconds_per_step
        return replace(known, step_ms=step, step_bytes=held, verdict="")

    def noted(self, folder: Path, report: Report, told: str) -> Figures:
        """The figures of a report, all of them measured on the file it describes."""
        made, latency = report.artifact, report.artifact.latency_ms
        proof = len(pair_of(read("t10k")))
        hits = round((made.score or 0.0) * proof)
        ends = binomtest(hits, proof).proportion_ci(method="wilson")
        verdicts = ", ".join(f"{limit.name} {limit.verdict}" for limit in report.limits)
        return Figures(
            stage=folder.name,
            told=told,
            storage=made.storage_bytes or 0,
            latency_ms=latency.p50 if latency else float("nan"),
            score=hits / proof,
            low=float(ends.low),
            high=float(ends.high),
            step_ms=None,
            step_bytes=None,
            verdict=verdicts,
        )


def _within(folder: Path) -> lilliput.Surroundings:
    return lilliput.Surroundings(folder=folder / "training")


def _line(found: Figures) -> str:
    step = "" if found.step_ms is None else f", {found.step_ms:.0f} ms a step"
    return (
        f"  {found.stage}: {found.storage:,} bytes, {found.latency_ms:.3f} ms, "
        f"{found.score:.1%} ({found.low:.1%} to {found.high:.1%}){step}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--quick", action="store_true", help="a few pictures, to see it run")
    chosen = parser.parse_args()
    size = Size(pictures=2_400, trials=2, tuning=0.5, epochs=1.0) if chosen.quick else Size()
    Story(chosen.out, size).tell()
    print(f"see {chosen.out / 'story.html'}")


if __name__ == "__main__":
    main()

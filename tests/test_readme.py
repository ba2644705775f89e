"""What README.md and docs/tutorial.md tell a newcomer to type, typed."""

import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lilliput
from benchmarks import table
from examples import fashion_mnist
from lilliput.cli import main
from lilliput.cli.commands import app
from lilliput.stages.measure import Conditions
from lilliput.stages.report import read_report

ROOT = Path(__file__).parents[1]
README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
PAGES = sorted([README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OWN = (
    "net",
    "mynet",
    "model",
    "task",
    "longer",
)  # modules of the reader's; other tests have their own
REACHED = {0: "proved", 1: "missed", 3: "unproved"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the text is to be saved as."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if self.language == "python" and named else None

    @property
    def commands(self) -> list[list[str]]:
        lines = self.text.splitlines() if self.language == "sh" else []
        return [shlex.split(line, comments=True) for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def commands(program: str) -> list[list[str]]:
    return [c[1:] for page in PAGES for b in blocks(page) for c in b.commands if c[0] == program]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; latency and memory are measured in brief."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(Conditions.__init__.__kwdefaults__, "seconds", 0.5)
    for name in OWN:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in OWN:
        sys.modules.pop(name, None)


def follow(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Does what a page says, from top to bottom; the `lilliput` commands that were run."""
    done = []
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text)
    for block in blocks(page):
        if block.language == "python" and not block.file:
            exec(compile(block.text, page.name, "exec"), {"__name__": page.stem})
        for program, *tokens in block.commands:
            if program == "python":
                runpy.run_path(tokens[0], run_name="__main__")
            elif program == "lilliput":
                monkeypatch.setattr(sys, "argv", [program, *tokens])
                status = main()
                assert status in REACHED, f"{shlex.join(tokens)} ended with status {status}"
                done.append(tokens[0])
    return done


def test_every_command_is_one_that_is_known():
    told = commands("lilliput")
    assert {"compress", "verify", "inspect", "init", "unpack"} <= {tokens[0] for tokens in told}
    for tokens in told:
        app.parse_args(tokens, exit_on_error=False, print_error=False)


def test_every_make_target_exists():
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = commands("make")
    assert ["demo"] in told and {tokens[0] for tokens in told} <= set(rules)


def test_no_other_program_is_needed():
    programs = {c[0] for page in PAGES for block in blocks(page) for c in block.commands}
    assert programs <= {"lilliput", "make", "python", ".", "apt-get"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_command_reference_is_that_of_the_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["write_commands.py"])  # usage lines name the program
    script = runpy.run_path(str(ROOT / "docs" / "write_commands.py"))
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == script["text"](), "`make docs` writes it again"


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "benchmarks.md"], ids=lambda p: p.name)
def test_tables_are_those_of_the_committed_results(page):
    text = page.read_text(encoding="utf-8")
    assert table.rewrite(text) == text, "`make docs` writes them again"


@pytest.mark.slow
def test_the_tutorial_leads_to_a_proof(workshop, monkeypatch, capsys):
    done = follow(TUTORIAL, workshop, monkeypatch)
    assert done[:6] == ["profile", "compress", "compress", "verify", "verify", "unpack"]
    assert done[6:] == ["apply", "techniques", "apply"]
    report = read_report(workshop / "out" / "first")
    assert report.verdict == "proved" and report.original.score > 0.95
    assert report.looks["proof"] == 1 and report.command.startswith("lilliput compress task.py")
    assert read_report(workshop / "out" / "again").files == report.files
    mine = lilliput.load(workshop / "out" / "mine", model=sys.modules["mynet"].Net(classes=4))
    assert float((mine.head.weight == 0).float().mean()) >= 0.5
    assert "2\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch's own exporter
def test_the_page_on_onnx_files_leads_to_proofs(workshop, monkeypatch):
    done = follow(ROOT / "docs" / "onnx.md", workshop, monkeypatch)
    assert done[:3] == ["inspect", "compress", "compress"]
    assert done[3:] == ["profile", "verify", "apply", "unpack", "simplify"]
    for name in ("out", "close", "again"):
        assert read_report(workshop / name).verdict == "proved"
    assert read_report(workshop / "out").drop.metric == "agreement"
    assert (workshop / "short.onnx").is_file() and (workshop / "there" / "model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch's own exporter
def test_every_way_in_leads_to_a_report(workshop, monkeypatch):
    furnish(workshop)
    done = follow(README, workshop, monkeypatch)
    assert done.count("compress") == 10 and done.count("verify") == 2
    ways = ("mine", "texts", "photos", "arrays", "onnx", "python", "again")
    for name in (*ways, "several", "front", "openvino", "fixed", "recovered"):
        report = read_report(workshop / "out" / name)
        assert report.verdict in REACHED.values() and report.drop is not None
        assert (workshop / "out" / name / "report.html").stat().st_size < 2_000_000
    assert {"finetune", "tune", "distill"} <= set(done)
    assert (workshop / "mytask.py").is_file() and (workshop / "there" / "model.onnx").is_file()


def furnish(folder: Path) -> None:
    """What the README's reader has: a network and its weights, photos, arrays, a classifier."""
    (folder / "mynet.py").write_text(next(b.text for b in blocks(TUTORIAL) if b.file == "mynet.py"))
    shutil.copy("mynet.py", "net.py")
    (folder / "model.py").write_text("from net import Net\n\n\ndef build():\n    return Net(6)\n")
    pixels, labels = pictures(1_200)
    save_photos(folder / "photos", pixels[:800], labels[:800])
    save_photos(folder / "newphotos", pixels[800:], labels[800:])
    torch.save(trained(pixels[:800], labels[:800]), "net.pt")
    save_graph(folder / "model.onnx")
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(600, 3, 24, 24)).astype(np.float32)
    np.savez("inputs.npz", inputs=inputs, targets=rng.integers(0, 6, 600))
    save_classifier(folder / "hf_folder")
    words = rng.choice(["good", "bad", "film", "plot", "the", "a", "dull", "fine"], size=(400, 6))
    lines = {" ".join(row): int("good" in row) for row in words}
    (folder / "corpus.txt").write_text("".join(f"{k}\t{v}\n" for k, v in lines.items()))


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of four kinds: clothes where they are installed, else stripes of four widths."""
    if fashion_mnist.FOLDER.exists():
        found = fashion_mnist.read("t10k")
        some = (found.labels < 4).nonzero().flatten()[:count]
        grey = (found.pixels[some, 0] * 255).byte().numpy()  # (N, 28, 28)
        return np.repeat(grey[..., None], 3, axis=-1), found.labels[some].numpy()
    rng, labels = np.random.default_rng(0), np.arange(count) % 4
    pixels = rng.integers(0, 120, (count, 28, 28, 3)).astype(np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        picture[:: label + 2] += 100
    return pixels, labels


def save_photos(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / f"kind{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"kind{label}" / f"{number:04}.png")


def trained(pixels: np.ndarray, labels: np.ndarray) -> dict[str, torch.Tensor]:
    """Weights of the network after a short training at the size that the README names."""
    torch.manual_seed(0)
    net = runpy.run_path("mynet.py")["Net"]()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1  # (N, 3, 28, 28)
    for _ in range(3):
        for chosen in torch.randperm(len(images)).split(64):
            large = torch.nn.functional.interpolate(images[chosen], size=64, mode="bilinear")
            loss = torch.nn.functional.cross_entropy(net(large), torch.tensor(labels)[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.state_dict()


def save_graph(path: Path) -> None:
    """The network as somebody else's exporter would write it."""
    net = runpy.run_path("mynet.py")["Net"](6).eval()
    sizes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        net, (torch.randn(2, 3, 24, 24),), path, input_names=["inputs"], dynamic_shapes=sizes,
        dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip


def save_classifier(folder: Path) -> None:
    """A Hugging Face folder with a very small text classifier, never trained."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["good", "bad", "film", "plot", "the", "a", "dull", "fine"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)

"""The list of bad inputs: each gets one line, a hint, status 2, and leaves nothing behind."""

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from clusters import files
from torch import nn

from graphs import graph, node, written
from lilliput.model.hashes import model_hash
from lilliput.runs import LEDGER

TASKS = {
    "missing.py": None,
    "syntax.py": "import lilliput\ntask = (\n",
    "empty.py": "x = 1\n",
    "wrong.py": "task = 3\n",
    "fails.py": "def task():\n    return {}['model']\n",
    "leaves.py": "import sys\nsys.exit(0)\n",
    "nothing.py": "import lilliput\nfrom net import Net\n"
    "task = lilliput.Task(model=Net(), examples=[])\n",
    "nan.py": "import lilliput, torch\nfrom net import Net\nnet = Net()\n"
    "torch.nn.init.constant_(net.head.bias, float('nan'))\n"
    "task = lilliput.Task(model=net, examples=lilliput.arrays('points.npz'))\n",
    "metric.py": "import lilliput\nfrom net import Net\n"
    "task = lilliput.Task(model=Net(), examples=lilliput.arrays('points.npz'), metric='acuracy')\n",
    "labels.py": "import lilliput, torch\nfrom net import Net\n"
    "task = lilliput.Task(model=Net(), metric='accuracy',\n"
    "    examples=[(torch.randn(32), torch.zeros(3)) for _ in range(40)])\n",
}


@pytest.fixture
def scratch(tmp_path_factory, monkeypatch):
    """Where temporary files go."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def refused(said, message):
    assert (said.status, said.out) == (2, ""), said
    lines = [line for line in said.err.splitlines() if not line.startswith("Forecast: ")]
    assert lines[0].startswith("error: ") and message in lines[0]
    assert len(lines) == 2 and lines[1].startswith("hint: ") and len(lines[1]) > 8, lines
    return lines


@pytest.mark.parametrize(
    ("corruptions", "message", "hint"),
    [
        ("nois", "unknown augmentation 'nois'", "did you mean noise?"),
        ("noise(decibels=1e9)", "noise: decibels = 1000000000.0", "the nearest is 100"),
        ("rotate", "rotate takes one input of images", "leave it out"),
        ("noise, mixup", "mixup mixes examples", "it serves training"),
    ],
)
def test_corruptions(call, here, corruptions, message, hint):
    before = files(here)
    said = call("compress", "task.py", "--out", "out", "--generalize", corruptions)
    assert hint in refused(said, message)[1]
    assert files(here) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "missing.py is missing"),
        ("syntax.py", "syntax.py failed: SyntaxError"),
        ("empty.py", "defines no task"),
        ("wrong.py", "is a int, not a lilliput.Task"),
        ("fails.py", "fails.py failed: KeyError: 'model'"),
        ("leaves.py", "leaves.py failed: SystemExit: 0"),
        ("nothing.py", "no examples"),
        ("nan.py", "parameter head.bias holds NaN values"),
        ("metric.py", "acuracy"),
        ("labels.py", "labels have shape"),
    ],
)
def test_task_files(call, here, name, message):
    if TASKS[name] is not None:
        (here / name).write_text(TASKS[name])
    before = files(here)
    refused(call("compress", name, "--out", "out"), message)
    assert files(here) == before


def test_the_line_of_a_failing_task_is_named(call, here):
    for name, number in (("fails.py", 2), ("syntax.py", 2)):
        (here / name).write_text(TASKS[name])
        assert f"{name}, line {number}" in call("compress", name, "--out", "out").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--storage -3%", "storage '-3%' is not a limit"),
        ("--storage=-3%", "storage '-3%' is not a limit"),
        ("--storage 120%", "storage '120%' is not a limit"),
        ("--latency 12parsecs", "latency '12parsecs' is not a limit"),
        ("--drop nan", "drop 'nan' is not a limit"),
        ("--energy 3J", "energy cannot be measured here"),
        ("--threads 0", "--threads 0 is too few"),
        ("--batch -1", "--batch -1 is too few"),
        ("--metric accuracy", "--metric does not go with task.py"),
        ("--runtime opnvino", '"openvino". Did you mean "openvino"?'),
        ("--arithmetic int4", 'Choose from: "float32", "int8", "fixed". Did you mean "int8"?'),
        ("--seed -1", "seed -1 is out of range"),
        ("--seed 99999999999999999999", "seed 99999999999999999999 is out of range"),
        ("--part hiden", "the model has no part 'hiden'"),
        ("--sweep 6%,", "--sweep '6%,' has an empty limit"),
        ("--sweep 6%,nine", "sweep: storage 'nine' is not a limit"),
        ("--sweep 6%,5ms", "sweep: storage '5ms' is not a limit"),
        ("--sweep 6%,9% --storage 9%", "storage and sweep exclude each other"),
        ("--sweep 30%,60% --arithmetic fixed", "sweep does not go with arithmetic fixed"),
        ("--drop 120%", "accuracy lies between 0 and 1"),
    ],
)
def test_options(call, here, words, message):
    refused(call("compress", "task.py", "--out", "out", *words.split()), message)
    assert not (here / "out").exists() and not (here / LEDGER).exists()


def test_twelve_parsecs_with_a_blank(call, here):
    words = ("compress", "task.py", "--out", "out", "--latency", "12 parsecs")
    refused(call(*words), "latency '12 parsecs' is not a limit")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("net.py:Net", "needs one of --images, --data or --shape"),
        ("net.py:Nett --data points.npz", "net.py has no Nett"),
        ("net.py:Net --data nowhere.npz", "nowhere.npz"),
        ("net.py:Net --data net.pt", "net.pt"),
        ("net.py:Net --data points.npz --weights points.npz", "points.npz"),
        ("net.py:Net --data points.npz --weights nowhere.pt", "nowhere.pt"),
        ("net.py:Net --data points.npz --metric acuracy", "acuracy"),
        ("net.py:Net --shape 3xx", "is not the shape of an input"),
        ("net.py:Net --images . --mean grey", "--mean 'grey' is not a number"),
        ("nowhere", "there is no nowhere"),
        (".", "no Hugging Face folder"),
        ("net.pt", "is no task, but state dict"),
        ("points.npz", "is no task, but arrays"),
    ],
)
def test_targets(call, here, words, message):
    refused(call("compress", *words.split(), "--out", "out"), message)
    assert not (here / "out").exists()


def test_an_output_folder_of_someone_else(call, here):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    for force in ([], ["--force"]):
        said = call("compress", "task.py", "--out", "mine", *force)
        refused(said, "not an output folder of Lilliput's")
    refused(call("compress", "task.py", "--out", "net.py"), "exists and is not a folder")
    assert (here / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_cannot_be_written(call, here):
    (here / "shut").mkdir(mode=0o500)
    refused(call("compress", "task.py", "--out", "shut/out"), "cannot write")


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("pack bad.onnx", b"not a model at all", "ONNX"),
        ("pack bad.onnx", b"", "ONNX"),
        ("pack nowhere.onnx", None, "nowhere.onnx"),
        ("unpack bad.lilliput into", b"\x89LLP\r\n\x1a\n1234", ".lilliput"),
        ("unpack bad.lilliput into", b"PK\x03\x04", ".lilliput"),
        ("unpack nowhere.lilliput into", None, "nowhere.lilliput"),
        ("inspect nowhere", None, "nowhere cannot be read"),
        ("verify nowhere", None, "manifest.json"),
        ("report nowhere", None, "nowhere"),
        ("apply plan.toml task.py --out out", b"steps = 3", "plan"),
        ("apply nowhere.toml task.py --out out", None, "nowhere.toml"),
    ],
)
def test_files(call, here, command, content, message):
    named = Path(command.split()[1])
    if content is not None:
        named.write_bytes(content)
    before = files(here)
    refused(call(*command.split()), message)
    assert files(here) == before and not (here / "into").exists()


def test_a_plan_for_another_model(call, here):
    (here / "plan.toml").write_text('model_hash = "00"\nsteps = []\n')
    said = call("apply", "plan.toml", "task.py", "--out", "out")
    refused(said, "another architecture")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--storage 100B", "a packed file of 100 bytes is out of reach, the smallest is"),
        ("--storage 90% --installed 1KB", "a runnable file of 1,000 bytes is out of reach"),
        ("--storage 1% --arithmetic fixed", "in fixed point the packed file has at least"),
    ],
)
def test_limits_that_nothing_meets_name_the_nearest(call, here, scratch, words, message):
    before = files(here)
    refused(call("compress", "task.py", "--out", "out", *words.split()), message)
    assert files(here) == before and not list(scratch.glob("lilliput*"))


def test_a_runtime_that_is_not_installed(call, here, monkeypatch):
    monkeypatch.setattr("lilliput.environment.package_version", lambda name: None)
    said = call("compress", "task.py", "--out", "out", "--runtime", "openvino")
    assert "pip install lilliput[openvino]" in refused(said, "OpenVINO is not installed")[1]
    assert not (here / "out").exists()


STEP = '[[steps]]\ntechnique = "{}"\nwhere = ["{}"]\n'


@pytest.mark.parametrize(
    ("technique", "where", "message", "hint"),
    [
        ("quantize_rond", "hidden.weight", "unknown technique", "did you mean quantize_round?"),
        ("quantize_round", "hiden.weight", "no site", "did you mean hidden.weight?"),
        ("factorize_cp", "head.weight", "cannot take head.weight, 6 x 64", "factorize_whitened"),
    ],
)
def test_a_plan_with_a_wrong_step(call, here, scratch, technique, where, message, hint):
    shapes = model_hash(nn.ModuleDict({"hidden": nn.Linear(32, 64), "head": nn.Linear(64, 6)}))
    (here / "plan.toml").write_text(f'model_hash = "{shapes}"\n{STEP.format(technique, where)}')
    before = files(here)
    said = call("apply", "plan.toml", "task.py", "--out", "out")
    assert hint in refused(said, message)[1]
    assert files(here) == before and not list(scratch.glob("lilliput*"))


def custom(model, here):
    """An operator that only its author has."""
    model.graph.node[0].domain = "my.own"
    model.opset_import.append(onnx.helper.make_opsetid("my.own", 1))


def elsewhere(location):
    """Weights in another file."""

    def moved(model, here):
        (here.parent / "w.bin").write_bytes(bytes(4 * 20 * 64))
        tensor = model.graph.initializer[0]
        onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=4 * 20 * 64)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL

    return moved


@pytest.mark.parametrize(
    "command",
    [
        "compress net.onnx --data x.npz --out out",
        "profile net.onnx --data x.npz",
        "simplify net.onnx out",
    ],
)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (custom, "my.own.MatMul"),
        (elsewhere("../w.bin"), "unsafe file name"),
        (elsewhere("gone.bin"), "external data that is not there: 'gone.bin'"),
    ],
)
def test_onnx_files(call, tmp_path, monkeypatch, scratch, command, spoil, message):
    here = tmp_path / "own"
    here.mkdir()
    monkeypatch.chdir(here)
    weights = {"v": np.zeros((20, 64), np.float32)}
    model = graph([node("MatMul", "x v", "y")], {"x": ["N", 20]}, ["y"], weights=weights)
    spoil(model, here)
    written(model, here / "net.onnx")
    np.savez(here / "x.npz", x=np.zeros((30, 20), np.float32))
    before = files(here)
    refused(call(*command.split()), message)
    assert files(here) == before and not list(scratch.glob("lilliput*"))


def test_rows_that_do_not_match(call, here):
    np.savez("few.npz", inputs=np.zeros((9, 32), np.float32), targets=np.zeros(8, np.int64))
    refused(call("compress", "net.py:Net", "--data", "few.npz", "--out", "out"), "few.npz")

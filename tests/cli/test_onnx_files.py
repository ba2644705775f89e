"""The commands, given an ONNX file instead of code."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphs import graph, node, weight, written

METRIC = """
import numpy as np


class Share:
    name, higher_is_better, range, reference = "share", True, (0.0, 1.0), "original"

    def rows(self, outputs, targets):
        close = (outputs - targets).abs().amax(1) < 0.5
        return close.double().numpy()[:, None]

    def aggregate(self, rows):
        return float(np.mean(rows))


def broken():
    raise RuntimeError("no such metric today")
"""
QUICK = ("--threads", "1")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with net.onnx, inputs.npz and metric.py, which is the current one."""
    weights = {"v": weight(20, 64) / 4, "w": weight(64, 6, seed=1), "b": weight(6, seed=2)}
    nodes = [node("MatMul", "x v", "h"), node("Relu", "h", "r"), node("Gemm", "r w b", "scores")]
    model = graph(nodes, {"x": ["N", 20]}, ["scores"], weights=weights)
    written(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "inputs.npz", x=weight(300, 20, seed=3))
    (tmp_path / "metric.py").write_text(METRIC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compress_apply_verify_and_unpack(there, call):
    words = ("net.onnx", "--data", "inputs.npz", *QUICK)
    made = call("compress", *words, "--storage", "60%", "--out", "out", "--json")
    assert made.status == 0, made.err
    assert made.document["artifact"]["storage_bytes"] <= 0.6 * (there / "net.onnx").stat().st_size
    assert made.document["drop"] is None or made.document["drop"]["metric"] == "agreement"
    replayed = call("apply", "out/plan.toml", *words, "--out", "again", "--json")
    assert replayed.status in (0, 3), replayed.err
    assert replayed.document["plan"] == made.document["plan"]
    checked = call("verify", "out", *words, "--json")
    assert checked.status in (0, 3), checked.err
    assert call("verify", "out").status == 0
    assert call("unpack", "out/model.lilliput", "unpacked").status == 0
    unpacked, shipped = there / "unpacked" / "model.onnx", there / "out" / "model.onnx"
    assert unpacked.read_bytes() == shipped.read_bytes()


def test_profile_and_inspect_say_what_is_in_it(there, call):
    found = call("profile", "net.onnx", "--data", "inputs.npz", "--json")
    assert found.status == 0, found.err
    assert [site["name"] for site in found.document["sites"]] == ["v", "w"]
    assert [site["macs"] for site in found.document["sites"]] == [20 * 64, 64 * 6]
    assert set(found.document["site_ms"]) == {"v", "w"}
    assert min(found.document["site_ms"].values()) > 0
    told = call("inspect", "net.onnx", "--json").document
    assert told["next_command"] == "lilliput compress net.onnx --data INPUTS.npz --out OUT"


def test_init_writes_a_task_file_for_it(there, call):
    made = call("init", "task.py", "--target", "net.onnx", "--data", "inputs.npz", "--yes")
    assert made.status == 0, made.err
    found = call("profile", "task.py", "--json")
    assert [site["name"] for site in found.document["sites"]] == ["v", "w"]
    for words, told in {
        ("--shape", "20"): "an ONNX file has its weights and needs examples",
        ("--data", "inputs.npz", "--metric", "metric.py:Share"): "a task file imports its metric",
    }.items():
        failed = call("init", "no.py", "--target", "net.onnx", *words, "--yes")
        assert failed.status == 2 and told in failed.err
    assert not (there / "no.py").exists()


def test_a_metric_of_the_users_own(there, call):
    words = ("compress", "net.onnx", "--data", "inputs.npz", *QUICK, "--storage", "60%")
    made = call(*words, "--metric", "metric.py:Share", "--out", "out", "--json")
    assert made.status in (0, 3), made.err
    assert made.document["original"]["score"] == 1.0
    for name, told in {
        "broken": "no such metric today",
        "np": "metric.py:np failed",
        "Other": "metric.py has no Other",
    }.items():
        failed = call(*words, "--metric", f"metric.py:{name}", "--out", "no")
        assert failed.status == 2 and told in failed.err
    assert not (there / "no").exists()


def test_simplify_tells_what_it_did(there, call):
    model = onnx.load("net.onnx")
    model.graph.node.insert(0, node("Identity", "x", "x0"))
    model.graph.node[1].input[0] = "x0"
    onnx.save(model, "long.onnx")
    done = call("simplify", "long.onnx", "short.onnx")
    assert done.status == 0, done.err
    assert "identities and dropout removed: 1 nodes fewer" in done.out
    assert "largest difference of any output: 0" in done.out
    again = call("simplify", "long.onnx", "short.onnx", "--data", "inputs.npz")
    assert again.status == 2 and "short.onnx exists" in again.err
    forced = call(
        "simplify", "long.onnx", "short.onnx", "--data", "inputs.npz", "--force", "--json"
    )
    assert json.loads(forced.out)["removed"] == {"identities and dropout removed": 1}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "net.onnx needs one of --data or --images, got none"),
        (("--data", "inputs.npz", "--images", "."), "got --images and --data"),
        (("--data", "inputs.npz", "--weights", "net.pt"), "--weights does not go with net.onnx"),
        (("--data", "inputs.npz", "--shape", "20"), "--shape does not go with net.onnx"),
        (("--data", "none.npz"), "none.npz cannot be read as .npz"),
        (("--data", "inputs.npz", "--part", "v"), "an ONNX file has no parts"),
        (("--data", "inputs.npz", "--metric", "accuracy"), "accuracy needs a target"),
        (("--data", "wide.npz"), "x has shape (21,), the graph takes x (float32, any x 20)"),
        (("--data", "named.npz"), "give the ONNX graph no x (float32, any x 20)"),
    ],
)
def test_what_does_not_fit_is_an_error_and_leaves_nothing(there, call, words, told):
    np.savez("wide.npz", x=weight(30, 21))
    np.savez("named.npz", y=weight(30, 20))
    failed = call("compress", "net.onnx", *words, "--out", "out")
    assert failed.status == 2 and told in failed.err
    assert not (there / "out").exists()


def test_a_file_that_is_no_model_is_an_error(there, call):
    (there / "bad.onnx").write_bytes((there / "net.onnx").read_bytes()[:500])
    failed = call("compress", "bad.onnx", "--data", "inputs.npz", "--out", "out")
    assert failed.status == 2, failed.err
    gone = call("compress", "gone.onnx", "--data", "inputs.npz", "--out", "out")
    assert gone.status == 2 and "cannot read gone.onnx" in gone.err

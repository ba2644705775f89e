"""Real runs, from the shell to the verdict."""

import json
import re
import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from clusters import files, run, start
from jsonschema import Draft202012Validator

from lilliput.runs import LEDGER

pytestmark = pytest.mark.slow
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
WORDS = ("compress", "task.py", "--storage", "45%", "--drop", "3%", "--out", "out")
SHIPPED = {"model.onnx", "model.lilliput", "model.safetensors", "plan.toml", "manifest.json"}


def checked(text):
    document = json.loads(text)
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)
    return document


def copied(proved, here):
    shutil.copytree(proved[0] / "out", here / "out")
    return here / "out"


def test_proved_is_status_0_and_json_is_the_report(proved):
    folder, done = proved
    assert (done.returncode, done.stderr) == (0, "")
    document = checked(done.stdout)
    assert document == json.loads((folder / "out" / "report.json").read_text())
    assert document["verdict"] == "proved" and document["artifact"]["latency_ms"]["threads"] == 1
    assert document["command"] == (
        "lilliput compress task.py --storage 45% --drop 3% --out out --threads 1 --json"
    )
    held = {path.name for path in (folder / "out").iterdir()}
    assert held == SHIPPED | {"report.json", "report.html"}
    assert (folder / LEDGER).is_file()


def test_missed_and_unproved_have_their_own_status(call, here):
    words = "init own.py --target net.py:Net --weights net.pt --data points.npz --metric accuracy"
    assert call(*words.split(), "--yes").status == 0
    limits = "--storage 15% --drop 0.01% --seed 3"
    said = call("compress", "own.py", *limits.split(), "--out", "deep/out")
    assert said.status in (1, 3), said
    assert "deep/out/report.html" in said.out.splitlines()
    assert said.err.splitlines()[0].startswith("Forecast: about")
    assert any("cannot prove a drop" in line for line in said.err.splitlines())
    report = json.loads(Path("deep/out/report.json").read_text())
    assert report["seed"] == 3
    verdicts = {limit["name"]: limit["verdict"] for limit in report["limits"]}
    assert verdicts["storage"] == "proved" and verdicts["drop"] != "proved"
    assert (here / LEDGER).is_file()

    task = "net.py:Net --weights net.pt --data points.npz"
    words = f"apply deep/out/plan.toml {task} --storage 2% --out deep/missed"
    said = call(*words.split())
    assert said.status == 1 and "MISSED" in said.out, said
    words = f"apply deep/out/plan.toml {task} --storage 90% --out deep/out"
    said = call(*words.split(), "--drop", "9.999%")
    assert (said.status, said.err.splitlines()[-1]) == (2, "hint: --force replaces it")
    said = call(*words.split(), "--drop", "0.000001%", "--force", "--json")
    again = checked(said.out)
    assert said.status == {"unproved": 3, "missed": 1}[again["verdict"]]
    assert again == json.loads(Path("deep/out/report.json").read_text())
    assert again["source_checkpoint_bytes"] == Path("net.pt").stat().st_size
    assert again["plan"]["steps"] == report["plan"]["steps"]
    assert Path("deep", LEDGER).is_file()
    assert [path.name for path in Path("deep").iterdir() if "out" in path.name] == ["out"]


def test_a_latency_out_of_reach_is_named_with_the_fastest_and_nothing_is_written(call, here):
    said = call("compress", "task.py", "--latency", "2%", "--threads", "1", "--out", "fast")
    assert said.status == 2 and not Path("fast").exists()
    assert re.search(r"a call of \S+ ms is out of reach, the fastest takes \S+ ms", said.err)
    assert "lilliput profile" in said.err


def test_verify_judges_the_same_files_on_the_same_proof(proved, call, here):
    out = copied(proved, here)
    before = files(out)
    shutil.copy(proved[0] / LEDGER, here / LEDGER)
    said = call("verify", out, "task.py", "--threads", "1", "--json")
    assert said.status == 0, said
    new, old = checked(said.out), json.loads((out / "report.json").read_text())
    assert files(out) == before
    assert new["drop"] == old["drop"] and new["files"] == old["files"]
    assert new["original"]["storage_bytes"] == old["original"]["storage_bytes"]
    assert new["artifact"]["installed_bytes"] == old["artifact"]["installed_bytes"]
    assert new["command"].startswith("lilliput verify ")


@pytest.mark.skipif(find_spec("openvino") is None, reason="an extra")
def test_verify_in_another_runtime_shows_both(proved, call, here):
    out = copied(proved, here)
    words = "verify", out, "task.py", "--threads", "1", "--runtime", "openvino"
    document = checked(call(*words, "--json").out)
    judged, other = document["runtimes"]
    assert (judged["name"], other["name"]) == ("openvino", "onnxruntime")
    assert judged["version"] == document["environment"]["openvino"]
    assert document["artifact"]["score"] == judged["artifact_score"]
    assert other["agreement"]["examples"] == document["splits"]["proof"]
    assert document["limits"] and document["artifact"]["latency_ms"]["p50"] > 0
    said = call(*words)
    assert "largest difference" in said.out and "ONNX Runtime" in said.out, said
    said = call("verify", out, "task.py", "--runtime", "tensorrt")
    assert said.status == 2 and "openvino" in said.err


def test_corrupted_inputs_are_a_row_each(proved, call, here):
    out = copied(proved, here)
    words = "verify", out, "task.py", "--threads", "1", "--generalize"
    document = checked(call(*words, "noise, noise(decibels=-10)", "--json").out)
    mild, hard = document["generalization"]
    assert (mild["corruption"], hard["corruption"]) == ("noise", "noise(decibels=-10.0)")
    assert mild["examples"] == min(500, document["splits"]["proof"])
    assert mild["original_score"] > hard["original_score"] and hard["drop"] <= hard["upper"]
    said = call(*words, "noise")
    assert "corrupted inputs" in said.out and "noise " in said.out
    assert json.loads((out / "report.json").read_text())["generalization"] == [], "a table"


def test_verify_on_new_data(proved, call, here):
    out = copied(proved, here)
    held = np.load("points.npz")
    draw = np.random.default_rng(5)
    inputs = held["inputs"] + 0.01 * draw.normal(size=held["inputs"].shape).astype(np.float32)
    np.savez("new.npz", inputs=inputs[:900], targets=held["targets"][:900])
    said = call("verify", out, "task.py", "--data", "new.npz", "--json")
    assert said.status == 0, said
    assert said.document["splits"] == {"calibration": 0, "search": 0, "proof": 900}
    assert said.document["drop"]["examples"] == 900
    said = call("verify", out, "net.py:Net.forward", "--data", "new.npz")
    assert (said.status, said.out) == (2, "")


def test_verify_finds_a_flipped_byte(proved, call, here):
    out = copied(proved, here)
    said = call("verify", out)
    assert said.status == 0 and said.out.count("as shipped") == 4
    assert call("verify", out, "--json").document["files"]
    assert call("verify", out, "--max-bytes", "1kB").err.count("--max-bytes") == 1
    for name in ("model.onnx", "model.lilliput", "model.safetensors", "plan.toml"):
        whole = (out / name).read_bytes()
        place = len(whole) // 2
        (out / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        said = call("verify", out)
        assert (said.status, said.out) == (2, "")
        assert f"{name} is not the file that the manifest describes" in said.err
        (out / name).write_bytes(whole)
    (out / "model.onnx").unlink()
    assert "model.onnx is missing" in call("verify", out, "task.py").err


def test_report_is_written_again(proved, call, here):
    out = copied(proved, here)
    before = files(out)
    (out / "report.html").unlink()
    said = call("report", out)
    assert said.status == 0 and "PROVED" in said.out and f"{out}/report.html" in said.out
    assert files(out) == before


def test_profile_shows_every_site(call, here):
    said = call("profile", "task.py")
    assert said.status == 0
    lines = [line.split()[0] for line in said.out.splitlines() if line.strip()]
    assert lines[:3] == ["site", "hidden.weight", "head.weight"]
    assert lines[3:6] == ["Bytes:", "Sensitivity:", "Time:"]
    found = call("profile", "task.py", "--json").document
    assert found["site_ms"].keys() == {"hidden.weight", "head.weight"} and found["answers"]
    sites = found["sites"]
    assert [(s["name"], s["original_bytes"], s["macs"]) for s in sites] == [
        ("hidden.weight", 64 * 32 * 4, 64 * 32),
        ("head.weight", 6 * 64 * 4, 6 * 64),
    ]
    assert all(site["sensitivity"] > 0 for site in sites)


def until(folder, pattern, process):
    """Waits until something of that name appears."""
    deadline = time.monotonic() + 200
    while not list(folder.glob(pattern)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "status", "moment"),
    [
        (signal.SIGINT, 130, ".out.partial-*/model.lilliput"),
        (signal.SIGTERM, 143, ".out.partial-*"),
    ],
)
def test_an_interrupt_leaves_nothing(here, number, status, moment):
    before = files(here)
    process = start(*WORDS, folder=here)
    until(here, moment, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert err.splitlines()[-1] == "error: interrupted, nothing was written"
    assert files(here) == before
    assert not (here / "out").exists() and not list(here.glob(".out*"))


def test_a_killed_run_is_cleaned_up_by_the_next(here):
    before = files(here)
    process = start(*WORDS, folder=here)
    until(here, ".out.partial-*/model.onnx", process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and not (here / "out").exists()
    assert list(here.glob(".out.partial-*"))
    done = run(*WORDS, folder=here)
    assert done.returncode == 0, done.stderr
    assert not list(here.glob(".out*"))
    after = files(here)
    assert {name: after[name] for name in before} == before

import json
import platform

import pytest

from lilliput.environment import (
    cores,
    cpu_features,
    diagnosis,
    environment,
    int8_arithmetic,
    versions,
)


def test_versions_name_what_decides_about_the_bytes():
    found = versions()
    assert {"lilliput", "python", "torch", "onnxruntime", "numpy"} <= found.keys()
    assert found["python"] == platform.python_version()


def test_environment_is_words_without_names_or_paths_of_the_machine():
    found = environment()
    assert all(isinstance(value, str) for value in found.values())
    text = json.dumps(found)
    assert platform.node() not in text and "/home" not in text
    assert int(found["cores"]) == cores() >= 1 and int(found["ram_bytes"]) > 2**28


def test_the_diagnosis_says_what_runtimes_can_do_here():
    found = json.loads(json.dumps(diagnosis()))
    assert found["runtimes"]["onnxruntime"] is not None
    assert set(cpu_features()) == {k for k, v in found["cpu_features"].items() if v}
    assert found["arithmetic"].keys() == {"float32", "int8"}


def test_an_old_processor_gets_a_warning(monkeypatch):
    monkeypatch.setattr("lilliput.environment._linux_flags", lambda: {"avx2"})
    monkeypatch.setattr("lilliput.environment._mac_flags", set)
    found = diagnosis()
    assert "7-bit" in found["advice"][0] and "emulated" in found["arithmetic"]["int8"]


@pytest.mark.parametrize(
    ("flags", "arithmetic"),
    [
        ({"avx2", "avx_vnni", "avx512_vnni", "amx_int8"}, "amx"),
        ({"avx2", "avx_vnni", "avx512_vnni"}, "avx512_vnni"),
        ({"avx2", "avx_vnni"}, "avx_vnni"),
        ({"asimd", "asimddp"}, "neon_dotprod"),
        ({"avx2", "avx512f"}, "none"),
        (set(), "none"),
    ],
)
def test_the_best_integer_products_of_the_processor_are_named(monkeypatch, flags, arithmetic):
    monkeypatch.setattr("lilliput.environment._linux_flags", lambda: flags)
    monkeypatch.setattr("lilliput.environment._mac_flags", set)
    assert int8_arithmetic() == arithmetic == environment()["int8_arithmetic"]
    assert diagnosis()["int8_arithmetic"] == arithmetic

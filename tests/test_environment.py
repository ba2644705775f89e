import json
import platform

from lilliput.environment import cores, cpu_features, diagnosis, environment, versions


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

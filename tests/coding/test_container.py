import errno
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import build_model
from lilliput.coding import pack, read_header, unpack
from lilliput.errors import ContainerError, OutputError

EXTRAS = {"plan.toml": b"seed = 0\n" * 30, "notes/manifest.json": b"{}", "empty": b""}


@pytest.fixture
def packed(tmp_path: Path, model_path: Path) -> Path:
    pack(model_path, tmp_path / "model.lilliput", extras=EXTRAS)
    return tmp_path / "model.lilliput"


def test_comes_back_bit_for_bit(tmp_path: Path, packed: Path, model_bytes: bytes) -> None:
    paths = unpack(packed, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [
        "model.onnx",
        "empty",
        "notes/manifest.json",
        "plan.toml",
    ]
    assert paths[0].read_bytes() == model_bytes
    for name, data in EXTRAS.items():
        assert (tmp_path / "out" / name).read_bytes() == data
    onnx.load(paths[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.lilliput", "model.onnx", "out"]


def test_stats_account_for_every_byte(tmp_path: Path, model_path: Path) -> None:
    stats = pack(model_path, tmp_path / "x.lilliput")
    assert stats.total_bytes == (tmp_path / "x.lilliput").stat().st_size
    assert stats.total_bytes == stats.skeleton_bytes + sum(stats.tensors.values())
    assert stats.total_bytes < 0.7 * model_path.stat().st_size
    assert stats.tensors["codes"] < 48 * 40 * 0.65
    assert stats.tensors["zeros"] < 20
    assert stats.tensors["halves"] < 300 * 2
    assert stats.tensors["nibbles"] < 300
    assert "shape" not in stats.tensors


def test_same_input_same_bytes(tmp_path: Path, model_path: Path, packed: Path) -> None:
    pack(model_path, tmp_path / "again.lilliput", extras=dict(reversed(EXTRAS.items())))
    assert (tmp_path / "again.lilliput").read_bytes() == packed.read_bytes()


def test_header_says_what_is_inside(packed: Path, model_bytes: bytes) -> None:
    header = read_header(packed)
    assert header.version == 1
    assert header.files[0].name == "model.onnx"
    assert header.files[0].bytes == len(model_bytes)
    assert len(header.files[0].cuts) >= 11


def external(folder: Path, location: str = "weights.bin") -> Path:
    model = build_model()
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=location,
        size_threshold=100,
    )
    return folder / "model.onnx"


def test_external_data_is_carried(tmp_path: Path) -> None:
    path = external(tmp_path)
    stats = pack(path, tmp_path / "x.lilliput")
    assert stats.tensors["codes"] < 48 * 40 * 0.65
    for restored in unpack(tmp_path / "x.lilliput", tmp_path / "out"):
        assert restored.read_bytes() == (tmp_path / restored.name).read_bytes()
    assert (tmp_path / "out" / "weights.bin").stat().st_size > 1000


def test_external_data_elsewhere_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"weights.bin", b"../ghts.bin"))
    with pytest.raises(ContainerError, match="an unsafe file name"):
        pack(path, tmp_path / "x.lilliput")
    path.write_bytes(data.replace(b"weights.bin", b"/eights.bin"))
    with pytest.raises(ContainerError, match="an unsafe file name"):
        pack(path, tmp_path / "x.lilliput")
    path.write_bytes(data.replace(b"weights.bin", b"weights.bad"))
    with pytest.raises(ContainerError, match=r"not there: 'weights\.bad'"):
        pack(path, tmp_path / "x.lilliput")
    assert not (tmp_path / "x.lilliput").exists()


def test_external_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = external(tmp_path / "model")
    (tmp_path / "model" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ContainerError, match="outside the model's folder"):
        pack(path, tmp_path / "x.lilliput")


def test_external_data_cut_short_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ContainerError, match="cut short"):
        pack(path, tmp_path / "x.lilliput")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"this is text")
    with pytest.raises(ContainerError, match="not an ONNX file"):
        pack(tmp_path / "x.onnx", tmp_path / "x.lilliput")
    with pytest.raises(ContainerError, match=r"cannot read missing\.onnx"):
        pack(tmp_path / "missing.onnx", tmp_path / "x.lilliput")
    with pytest.raises(ContainerError, match=r"cannot read missing\.lilliput"):
        unpack(tmp_path / "missing.lilliput", tmp_path / "out")
    with pytest.raises(ContainerError, match=r"not a \.lilliput file"):
        unpack(tmp_path / "x.onnx", tmp_path / "out")


def test_extras_may_not_clash_or_leave(tmp_path: Path, model_path: Path) -> None:
    for name in ("model.onnx", "../x", "Model.ONNX"):
        with pytest.raises(ContainerError, match=r"unsafe|same name"):
            pack(model_path, tmp_path / "x.lilliput", extras={name: b""})


def test_existing_folder_is_left_alone(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        unpack(packed, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "out" / "mine").unlink()
    assert len(unpack(packed, tmp_path / "out")) == 4


def test_cap_on_the_unpacked_size(tmp_path: Path, packed: Path) -> None:
    with pytest.raises(ContainerError, match="more than the limit of 1000"):
        unpack(packed, tmp_path / "out", max_bytes=1000)
    assert not (tmp_path / "out").exists()


def test_full_disk_leaves_nothing(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(OutputError, match="No space left on device"):
            unpack(packed, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            pack(tmp_path / "model.onnx", tmp_path / "second.lilliput")
    assert sorted(tmp_path.rglob("*")) == before


def test_overlapping_external_tensors_come_back(tmp_path: Path) -> None:
    path = external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    wide = next(tensor for tensor in model.graph.initializer if tensor.name == "codes")
    for entry in wide.external_data:
        if entry.key == "length":
            entry.value = str(int(entry.value) + 100)
    path.write_bytes(model.SerializeToString())
    pack(path, tmp_path / "x.lilliput")
    unpack(tmp_path / "x.lilliput", tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").read_bytes() == (
        tmp_path / "weights.bin"
    ).read_bytes()


def test_large_codes_are_coded_together(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = [np.round(random.normal(size=(200, 300)) * 2).astype(np.int8) for _ in range(4)]
    graph = onnx.helper.make_graph(
        [], "g", [], [], [onnx.numpy_helper.from_array(a, f"w{i}") for i, a in enumerate(arrays)]
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    stats = pack(path, tmp_path / "m.lilliput")
    _, counts = np.unique(np.stack(arrays), return_counts=True)
    entropy = (counts * np.log2(counts.sum() / counts)).sum() / 8
    assert stats.total_bytes < 1.01 * entropy
    assert unpack(tmp_path / "m.lilliput", tmp_path / "o")[0].read_bytes() == path.read_bytes()

import shutil

import pytest

from lilliput.coding import pack
from lilliput.errors import ContainerError
from lilliput.folders import MANIFEST, file_entry, read_manifest
from lilliput.stages.verify import verify_answers, verify_files


@pytest.fixture
def copy(shipped, tmp_path):
    return shutil.copytree(shipped.folder, tmp_path / "copy")


def test_an_untouched_folder_is_what_it_says(shipped):
    assert verify_files(shipped.folder) == shipped.exported.artifact


def test_a_changed_or_missing_file_is_named(copy):
    with (copy / "plan.toml").open("a") as file:
        file.write("# edited\n")
    with pytest.raises(ContainerError, match=r"plan\.toml is not the file"):
        verify_files(copy)
    (copy / "plan.toml").unlink()
    with pytest.raises(ContainerError, match=r"plan\.toml is missing"):
        verify_files(copy)


def test_a_packed_file_of_another_model_is_found_out(shipped, copy, tmp_path):
    pack(shipped.bindings.original.path, copy / "model.lilliput")
    manifest = read_manifest(copy)
    entry = file_entry(copy / "model.lilliput")
    files = {**manifest.files, "model.lilliput": entry}
    (copy / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    with pytest.raises(ContainerError, match=r"does not unpack to model\.onnx"):
        verify_files(copy)


def test_a_name_that_leaves_the_folder_is_refused(copy):
    manifest = read_manifest(copy)
    files = {"../plan.toml": manifest.files["plan.toml"]}
    (copy / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    with pytest.raises(ContainerError, match="is missing"):
        verify_files(copy)


def test_the_artifact_answers_as_pytorch_does(shipped):
    found = verify_answers(
        shipped.folder, shipped.task, encodings=shipped.encodings, subset=range(20), batch_size=8
    )
    assert found.examples == 20 and (found.decibels is None or found.decibels > 110)
    other = verify_answers(shipped.folder, shipped.task, encodings={}, subset=range(20))
    assert other.decibels < 70

import zipfile

import numpy as np
import pytest

from lilliput.errors import TaskError
from lilliput.sources import arrays


def test_inputs_and_targets(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, inputs=np.arange(6.0).reshape(3, 2), targets=np.array([2, 1, 0]))
    found = arrays(path)
    assert len(found) == 3
    assert found[1][0].tolist() == [2.0, 3.0]
    assert [int(found[i][1]) for i in range(3)] == [2, 1, 0]


def test_inputs_alone_and_inputs_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.zeros((3, 2)))
    assert arrays(tmp_path / "a.npz")[0].shape == (2,)
    np.savez(tmp_path / "b.npz", ids=np.zeros((3, 2)), mask=np.ones((3, 2)), labels=np.zeros(3))
    value, target = arrays(tmp_path / "b.npz")[0]
    assert set(value) == {"ids", "mask"}
    assert float(target) == 0
    np.savez(tmp_path / "c.npz", x=np.zeros((3, 2)))
    assert set(arrays(tmp_path / "c.npz")[0]) == {"x"}


class Bomb:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_nothing_is_unpickled(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", inputs=np.array([Bomb()], dtype=object))
    with pytest.raises(TaskError, match=r"a\.npz cannot be read as \.npz: .*allow_pickle=False"):
        arrays(tmp_path / "a.npz")
    assert "unpickled" not in capsys.readouterr().out


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(TaskError, match="cannot be read as"):
        arrays(path)
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(TaskError, match="cannot be read as"):
        arrays(path)
    np.savez(path, inputs=np.zeros(3), targets=np.zeros(4))
    with pytest.raises(TaskError, match="differ or are 0: inputs 3, targets 4"):
        arrays(path)
    np.savez(path, inputs=np.zeros((0, 2)))
    with pytest.raises(TaskError, match="differ or are 0: inputs 0"):
        arrays(path)
    np.savez(path, targets=np.zeros(3))
    with pytest.raises(TaskError, match="holds no inputs"):
        arrays(path)
    np.save(tmp_path / "b.npy", np.zeros((0, 3)))
    with pytest.raises(TaskError, match="differ or are 0: inputs 0"):
        arrays(tmp_path / "b.npy")


def test_an_npy_file_holds_the_inputs_alone(tmp_path):
    np.save(tmp_path / "b.npy", np.arange(6.0).reshape(3, 2))
    found = arrays(tmp_path / "b.npy")
    assert found.targets is None and [len(found), found[2].tolist()] == [3, [4.0, 5.0]]


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"whatever")
    with pytest.raises(TaskError, match=r"net\.pt is no \.npz: it holds 'net/data\.pkl'"):
        arrays(tmp_path / "net.pt")

import pytest

from lilliput.coding.names import check_name, check_names
from lilliput.errors import ContainerError

PLAIN = ["model.onnx", "a/b/c.bin", "plan.toml", "größe.txt", ".hidden", "a..b"]
LEAVING = ["", ".", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", "C:\\x", "C:x", "./x"]
ODD = ["a\\b", "a\0b", "a\nb", "nul", "CON", "com1.txt", "a/lpt9", "x.", "x ", " x", "a?b"]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_pass(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", [*LEAVING, *ODD, "x" * 241, "a\u202eb"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(ContainerError, match="an unsafe file name"):
        check_name(name)


@pytest.mark.parametrize("names", [["a", "a"], ["A.txt", "a.TXT"], ["a", "a/b"], ["a/b", "a"]])
def test_clashes_are_refused(names: list[str]) -> None:
    with pytest.raises(ContainerError, match="two files of the same name"):
        check_names(names)
    check_names(["a/b", "a/c", "d"])

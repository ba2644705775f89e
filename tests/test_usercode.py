import pytest

from lilliput.errors import BudgetError, TaskError
from lilliput.usercode import users_code


def test_the_users_own_line_is_named():
    with pytest.raises(TaskError, match=r"net failed: ZeroDiv.* zero") as caught, users_code("net"):
        1 / 0  # noqa: B018
    assert caught.value.hint.endswith("test_usercode.py, line 9")


def test_a_message_of_many_lines_becomes_one():
    with pytest.raises(TaskError, match=r"^x failed: ValueError: a b \("), users_code("x"):
        raise ValueError("a\n  b\n")


def test_our_own_errors_pass_and_so_does_ctrl_c():
    with pytest.raises(BudgetError, match=r"^mine"), users_code("x"):
        raise BudgetError("mine")
    with pytest.raises(KeyboardInterrupt), users_code("x"):
        raise KeyboardInterrupt
    with pytest.raises(TaskError, match="SystemExit: 3"), users_code("x"):
        raise SystemExit(3)

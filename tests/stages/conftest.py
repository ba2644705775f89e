"""The small classifier, exported and encoded once."""

import pytest
from words import Shipped, ship, words_task


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return ship(words_task(), tmp_path_factory.mktemp("words") / "out")

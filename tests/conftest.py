"""Settings of every test: the same examples on every run, and no deadline on a busy machine."""

import os
import sys

import pytest
from hypothesis import settings

settings.register_profile("lilliput", deadline=None, derandomize=True, database=None)
settings.load_profile("lilliput")

for name in ("COLUMNS", "LINES"):  # consoles read them once; readline gives them to xdist's workers
    os.environ.pop(name, None)


@pytest.fixture(autouse=True, scope="session")
def cache_apart(tmp_path_factory):
    """What is measured in tests is forgotten after them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def users_modules_apart(tmp_path_factory):
    """Forgets what a test imported from its own folders: the next one has a `net.py` too."""
    yield
    own = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(own):
            del sys.modules[name]

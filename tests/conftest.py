"""Settings of every test: the same examples on every run, and no deadline on a busy machine."""

from hypothesis import settings

settings.register_profile("lilliput", deadline=None, derandomize=True, database=None)
settings.load_profile("lilliput")

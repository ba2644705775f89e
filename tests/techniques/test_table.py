import pytest

from lilliput.errors import PlanError
from lilliput.records import Step
from lilliput.techniques import TABLE, from_step


def test_names_are_distinct():
    assert len({kind.name for kind in TABLE}) == len(TABLE)


def test_an_unknown_technique_is_named_with_the_known_ones():
    with pytest.raises(PlanError, match="unknown technique 'magic'") as told:
        from_step(Step(technique="magic", where=("a",)))
    assert all(kind.name in told.value.hint for kind in TABLE)

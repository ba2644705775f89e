"""What the fields of every technique promise, held over THE TABLE."""

import pytest
from pydantic import ValidationError

from lilliput.errors import PlanError
from lilliput.records import Step
from lilliput.techniques import TABLE, from_step

pytestmark = pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)


def test_a_misspelt_field_is_an_error(kind):
    with pytest.raises(ValidationError, match="stepp"):
        kind(stepp=1)
    step = Step(technique=kind.name, where=("a",), settings={"stepp": 1.0})
    with pytest.raises(
        PlanError, match=f"{kind.name} has no field 'stepp' .(did you mean .*. )?its fields are"
    ) as told:
        from_step(step)
    assert "\n" not in str(told.value)


def is_text(kind, field):
    """Whether any text may be given: what is wrong with it is found where it is read."""
    told = kind.described()["fields"][field]
    return told["type"] == "str" and "choices" not in told


def test_a_value_of_another_type_is_an_error(kind):
    for field in kind.model_fields:
        own = type(getattr(kind(), field))
        for value in ("1", True):
            if own is type(value) and (own is bool or is_text(kind, field)):
                continue
            step = Step(technique=kind.name, where=("a",), settings={field: value})
            told = f"{kind.name}: {field} = {value!r}: Input should be "
            with pytest.raises(PlanError, match=told):
                from_step(step)


def test_a_value_out_of_range_is_an_error(kind):
    for field in kind.model_fields:
        own = type(getattr(kind(), field))
        for value in (-1e6, 1e6) if own is not bool and not is_text(kind, field) else ():
            number = own(value)
            step = Step(technique=kind.name, where=("a",), settings={field: number})
            with pytest.raises(PlanError, match=f"{kind.name}: {field} = .*: Input should be"):
                from_step(step)


def test_settings_are_frozen_and_described(kind):
    technique = kind()
    for field in kind.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(technique, field, getattr(technique, field))
        assert f"        {field}: " in kind.__doc__, f"{field} is not described"

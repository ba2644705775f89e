import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.errors import PlanError
from lilliput.plans import plan_from_toml, plan_to_toml, read_plan
from lilliput.records import Plan, Step

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
steps = st.builds(
    Step,
    technique=texts,
    where=st.lists(texts, max_size=3).map(tuple),
    settings=st.dictionaries(texts, values, max_size=4),
)
plans = st.builds(
    Plan,
    model_hash=texts,
    steps=st.lists(steps, max_size=3).map(tuple),
    predicted_damage=st.none() | st.floats(0, 1e9),
    predicted_storage_bytes=st.none() | st.integers(0, 2**40),
    seed=st.integers(0, 2**32),
)


@given(plans)
def test_every_plan_comes_back_equal(plan):
    text = plan_to_toml(plan)
    tomllib.loads(text)
    assert plan_from_toml(text) == plan


GOOD = 'model_hash = "ab"\n[[steps]]\ntechnique = "round"\nwhere = ["a.weight"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "bits = 4\n", r"unknown field 'steps\.0\.bits'"),
        ("speed = 1\n" + GOOD, "unknown field 'speed'"),
        (GOOD.replace("model_hash", "hash"), "unknown field 'hash'|'model_hash' is wrong"),
        (GOOD.replace('"round"', "3"), r"field 'steps\.0\.technique' is wrong"),
        ("model_hash = ", "not valid TOML"),
        ("", "'model_hash' is wrong"),
    ],
)
def test_a_bad_plan_names_the_field(text, said):
    with pytest.raises(PlanError, match=said) as caught:
        plan_from_toml(text)
    assert "\n" not in str(caught.value)


def test_a_plan_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(PlanError, match="cannot read the plan"):
        read_plan(tmp_path / "plan.toml")
    (tmp_path / "plan.toml").write_text(GOOD)
    assert read_plan(tmp_path / "plan.toml").steps[0].where == ("a.weight",)

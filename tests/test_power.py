"""The forecast, against the measured table and against simulation with the bound itself."""

import numpy as np
import pytest

from lilliput.errors import InputError
from lilliput.power import examples_needed, proof_power, smallest_provable_drop
from lilliput.proportions import drop_upper


@pytest.mark.parametrize(
    ("examples", "true_drop", "measured"),
    [
        (1510, 0.0, (0.50, 0.36)),
        (3020, 0.0, (0.77, 0.58)),
        (5500, 0.0, (0.97, 0.86)),
        (7500, 0.0, (0.99, 0.93)),
        (1510, 0.003, (0.31, 0.25)),
        (5500, 0.003, (0.74, 0.58)),
    ],
)
def test_reproduces_simulated_powers(
    examples: int, true_drop: float, measured: tuple[float, float]
) -> None:
    found = proof_power(examples, limit=0.01, true_drop=true_drop)
    assert found == pytest.approx(measured, abs=0.04)  # they were simulated with a few 100 draws


@pytest.mark.parametrize(("examples", "true_drop"), [(300, 0.0), (1510, 0.003), (6800, 0.005)])
def test_is_the_share_of_proofs(examples: int, true_drop: float) -> None:
    rate, draws = 0.06, 20_000
    shares = [(rate + true_drop) / 2, (rate - true_drop) / 2, 1 - rate]
    flips = np.random.default_rng(examples).multinomial(examples, shares, draws)
    proved = (
        drop_upper(flips[:, 0], flips[:, 1], examples=examples, confidence=0.975) <= 0.02
    ).mean()
    power = proof_power(
        examples, limit=0.02, flip_rates=(rate,), true_drop=true_drop, confidence=0.975
    )
    assert power[0] == pytest.approx(proved, abs=4 * 0.5 / np.sqrt(draws))


def test_one_way_flips_are_summed_with_the_exact_bound() -> None:
    flips = np.random.default_rng(0).binomial(800, 0.005, 20_000)
    proved = (drop_upper(flips, 0, examples=800) <= 0.01).mean()
    power = proof_power(800, limit=0.01, flip_rates=(0.005,), true_drop=0.005)
    assert power[0] == pytest.approx(proved, abs=0.015)


def test_at_the_limit_the_power_is_the_error_rate() -> None:
    assert proof_power(6800, limit=0.01, true_drop=0.01)[0] == pytest.approx(0.05, abs=0.003)


def test_too_few_examples_prove_nothing() -> None:
    assert smallest_provable_drop(100) == pytest.approx(1 - 0.05**0.01)
    assert proof_power(100, limit=0.01) == (0.0, 0.0)


def test_examples_needed_reach_the_power_and_hardly_more() -> None:
    needed = examples_needed(0.01, power=0.8, flip_rate=0.05)
    assert needed is not None
    assert proof_power(needed, limit=0.01, flip_rates=(0.05,))[0] >= 0.8
    assert proof_power(int(needed * 0.95), limit=0.01, flip_rates=(0.05,))[0] < 0.8


def test_no_number_proves_what_is_not_true() -> None:
    assert examples_needed(0.01, true_drop=0.01) is None
    assert examples_needed(0.01, true_drop=0.00999) is None


def test_without_flips_the_zero_flip_bound_decides() -> None:
    assert examples_needed(0.01, flip_rate=0.0) == pytest.approx(299, abs=2)


@pytest.mark.parametrize("wrong", [{"limit": 0.0}, {"limit": 0.01, "true_drop": 0.06}])
def test_refuses_nonsense(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="a forecast needs a limit"):
        proof_power(1000, **wrong)

"""What is said of a site by some of its rows is near what is true of all."""

import dataclasses

import pytest
import torch

from lilliput.techniques import QuantizeAwq, QuantizeGroups, sampling
from lilliput.techniques.grouping import installed_bytes, storage_bytes


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", 24)
    monkeypatch.setattr(sampling, "SAMPLE_WEIGHTS", 0)


@pytest.mark.parametrize("technique", [QuantizeGroups, QuantizeAwq])
@pytest.mark.parametrize("name", ["linear", "turned", "conv"])
def test_options_by_some_rows_are_near_those_by_all(profile, few, name, technique):
    known = dataclasses.replace(profile.sites[name], output=None, sensitivity=1.0)
    alone = dataclasses.replace(profile, sites={name: known})
    assert sampling.sampled(alone, name).sites[name].site.rows < known.site.rows
    for option in technique().options(alone, name):
        made = technique(**option.settings).apply(alone, (name,))[name]
        lost = known.damage(alone.matrix(name), known.site.matrix(made.decode()))
        assert option.damage == pytest.approx(lost, rel=0.4)
        assert option.installed == pytest.approx(installed_bytes(made), rel=0.1)
        assert option.storage == pytest.approx(storage_bytes(made), rel=0.1)


def test_rows_that_absorb_each_others_errors_are_taken_all(profile, few):
    known = profile.sites["linear"]
    both = dataclasses.replace(known, output=torch.eye(known.site.rows))
    whole = dataclasses.replace(profile, sites={"linear": both})
    assert sampling.sampled(whole, "linear") is whole


def test_groups_of_a_convolution_stay_whole(profile, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLE_WEIGHTS", 0)
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", 16)
    rows, groups = sampling.sampled_rows(profile.sites["grouped"])
    assert groups.tolist() == [0, 2]
    assert rows.tolist() == [*range(8), *range(16, 24)]
    few = sampling.sampled(profile, "grouped")
    assert torch.equal(few.matrix("grouped"), profile.matrix("grouped")[rows])
    assert torch.equal(few.column_side("grouped"), profile.column_side("grouped")[groups])
    assert few.factors is not profile.factors

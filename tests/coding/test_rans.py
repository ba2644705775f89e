import numpy as np
import pytest

from lilliput.coding.rans import LOWER, TOTAL, Coded, Model, decode, encode
from lilliput.errors import ContainerError


def sequence(count: int, lanes: int, seed: int) -> tuple[Model, np.ndarray]:
    random = np.random.default_rng(seed)
    frequencies = np.array([[4000, 90, 5, 1], [1024, 1024, 1024, 1024], [1, 1, 1, 4093]])
    owner = random.integers(0, 3, count).astype(np.uint8)
    draw = random.random(count)
    edges = np.cumsum(frequencies, axis=1) / TOTAL
    symbols = (draw[:, None] >= edges[owner]).sum(1).astype(np.uint8)
    return Model(frequencies, owner, lanes), symbols


def decode_one_by_one(model: Model, coded: Coded) -> list[int]:
    """The textbook decoder, one symbol after the other."""
    states, words = [int(state) for state in coded.states], list(coded.words)
    out = []
    for index, table in enumerate(model.owner):
        lane = index % model.lanes
        slot = states[lane] % TOTAL
        row = [int(frequency) for frequency in model.frequencies[table]]
        symbol, start = 0, 0
        while start + row[symbol] <= slot:
            start += row[symbol]
            symbol += 1
        states[lane] = row[symbol] * (states[lane] // TOTAL) + slot - start
        if states[lane] < LOWER:
            states[lane] = states[lane] << 16 | int(words.pop(0))
        out.append(symbol)
    assert states == [LOWER] * model.lanes
    assert not words
    return out


@pytest.mark.parametrize(("count", "lanes"), [(1, 1), (7, 7), (100, 1), (1000, 7), (2001, 13)])
def test_matches_the_textbook_decoder(count: int, lanes: int) -> None:
    model, symbols = sequence(count, lanes, count)
    [coded] = encode([model], [symbols])
    assert decode_one_by_one(model, coded) == symbols.tolist()
    assert np.array_equal(decode([model], [coded])[0], symbols)


def test_many_streams_in_lock_step_are_the_same_as_each_alone() -> None:
    pairs = [sequence(count, lanes, 5) for count, lanes in [(50, 3), (4000, 9), (1, 1), (900, 2)]]
    models, symbols = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    together = encode(models, symbols)
    for model, values, coded in zip(models, symbols, together, strict=True):
        [alone] = encode([model], [values])
        assert np.array_equal(alone.words, coded.words)
        assert np.array_equal(alone.states, coded.states)
    for values, found in zip(symbols, decode(models, together), strict=True):
        assert np.array_equal(values, found)


def test_size_is_the_information_content() -> None:
    model, symbols = sequence(200_000, 20, 3)
    [coded] = encode([model], [symbols])
    ideal = -np.log2(model.frequencies[model.owner, symbols] / TOTAL).sum() / 8
    size = 2 * len(coded.words) + 4 * len(coded.states)
    assert ideal < size < 1.001 * ideal + 4 * 20


def test_wrong_end_is_reported() -> None:
    model, symbols = sequence(500, 3, 1)
    [coded] = encode([model], [symbols])
    short = Coded(coded.states, coded.words[:-1])
    with pytest.raises(ContainerError, match="does not end as it began"):
        decode([model], [short])
    long = Coded(coded.states, np.append(coded.words, np.uint16(7)))
    with pytest.raises(ContainerError, match="does not end as it began"):
        decode([model], [long])


def test_nothing_at_all() -> None:
    assert encode([], []) == []
    assert decode([], []) == []

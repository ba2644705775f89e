"""Splitting examples into calibration, search and proof, so that duplicates stay together."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

SubsetName = Literal["calibration", "search", "proof"]
SUBSETS: tuple[SubsetName, ...] = ("calibration", "search", "proof")

CALIBRATION_MOST = 500
SEARCH_MOST = 750


@dataclass(frozen=True)
class Split:
    """Disjoint places in a task: calibration (statistics), search (may steer), proof (judges).

    Each subset is a tuple of indices in an order that is random but fixed by the seed, so that the
    first k of it are a fair sample.
    """

    calibration: tuple[int, ...]
    search: tuple[int, ...]
    proof: tuple[int, ...]

    def sizes(self) -> dict[str, int]:
        """Name of each subset -> its number of examples."""
        return {name: len(getattr(self, name)) for name in SUBSETS}


def default_sizes(count: int, *, own_proof: bool = False) -> tuple[int, int]:
    """How many of `count` examples calibrate and steer; the rest proves.

    A quarter each, at most 500 and 750: 25 / 25 / 50 for small sets. With an own proof set a half
    each.
    """
    if count < 4 and not own_proof:
        return min(count, 1), int(count == 3)
    share = 2 if own_proof else 4
    return min(CALIBRATION_MOST, (count + own_proof) // share), min(SEARCH_MOST, count // share)


def split_components(
    components: Sequence[Sequence[tuple[int, bytes]]], sizes: tuple[int, int], *, seed: int
) -> Split:
    """Deal whole components (examples that belong together) to the subsets.

    Args:
        components: Each a list of (index, SHA-256 of the input's bytes).
        sizes: Wanted numbers of calibration and search examples.
        seed: Salt of the order.

    Components larger than a wanted size go last, so that they end in the proof set if others can
    fill the first two.
    """
    salt = f"lilliput split {seed}".encode()

    def key(component: Sequence[tuple[int, bytes]]) -> tuple[bool, bytes]:
        content = min(fingerprint for _, fingerprint in component)
        return len(component) > min(sizes), hashlib.sha256(salt + content).digest()

    dealt: dict[SubsetName, list[int]] = {name: [] for name in SUBSETS}
    wanted: dict[SubsetName, int] = {"calibration": sizes[0], "search": sizes[1]}
    for component in sorted(components, key=key):
        fits = (
            name
            for name, most in wanted.items()
            if most and (not dealt[name] or len(dealt[name]) + len(component) <= most)
        )
        dealt[next(fits, "proof")] += [index for index, _ in component]
    return Split(**{name: tuple(indices) for name, indices in dealt.items()})


def connected(
    keys: Sequence[tuple[int, bytes]], groups: Sequence[Hashable] | None
) -> list[list[tuple[int, bytes]]]:
    """Components of examples that share their bytes or their group, directly or through others.

    Args:
        keys: (index, SHA-256 of the input's bytes) per example.
        groups: Group per example, or None.
    """
    parent = list(range(len(keys)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    seen: dict[Hashable, int] = {}
    for node, (_, fingerprint) in enumerate(keys):
        marks: list[Hashable] = [("bytes", fingerprint)]
        if groups is not None:
            marks.append(("group", groups[node]))
        for mark in marks:
            parent[root(node)] = root(seen.setdefault(mark, node))
    components: dict[int, list[tuple[int, bytes]]] = {}
    for node, entry in enumerate(keys):
        components.setdefault(root(node), []).append(entry)
    return list(components.values())

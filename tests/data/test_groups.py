"""Groups by links, against following every link by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from callama.data.groups import link

links = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40)


@given(batches=st.lists(links, max_size=4))
def test_what_is_linked_over_any_others_has_the_same_least_member(batches: list[list[tuple[int, int]]]) -> None:
    least = np.arange(30)
    by_hand = [{member} for member in range(30)]
    for batch in batches:
        left, right = np.array(batch, np.int64).reshape(-1, 2).T
        link(least, left, right)
        for a, b in batch:
            joined = by_hand[a] | by_hand[b]
            for member in joined:
                by_hand[member] = joined
        assert least.tolist() == [min(group) for group in by_hand]


def test_a_chain_of_a_hundred_thousand_is_one_group() -> None:
    order = np.random.default_rng(1).permutation(100_000)
    least = np.arange(len(order))
    link(least, order[1:], order[:-1])
    assert not least.any()

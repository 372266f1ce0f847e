"""Groups by links: what is linked, directly or over others, is one group, named by its least member.

All links of a batch are followed at once in numpy, so that a million rows cost eight bytes each and no
Python object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def link(least: Indices, left: Indices, right: Indices) -> None:
    """Joins the groups of ``left[i]`` and ``right[i]`` for every i; ``least[m]`` is the least member of m's
    group (at first ``arange``) and is changed in place."""
    while True:
        one, other = least[left], least[right]
        apart = one != other
        if not apart.any():
            return
        left, right, one, other = left[apart], right[apart], one[apart], other[apart]
        np.minimum.at(least, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(above := least[least], least):
            least[:] = above

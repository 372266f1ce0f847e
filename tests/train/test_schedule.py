"""The learning rate: linear up, half a cosine down, flat after it."""

from __future__ import annotations

import math

import pytest

from callama.train.config import SchedulerSection
from callama.train.schedule import learning_rate

SCHEDULER = SchedulerSection(min_lr=1.0, max_lr=9.0, warmup_num_steps=4)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 3.0), (1, 5.0), (2, 7.0), (3, 9.0), (4, 9.0), (6, 5 + 4 * math.cos(math.pi / 4)), (8, 5.0),
     (10, 5 - 4 * math.cos(math.pi / 4)), (12, 1.0), (500, 1.0)],
)  # fmt: skip
def test_known_values(step: int, rate: float) -> None:
    assert learning_rate(step, 12, SCHEDULER) == pytest.approx(rate)


def test_no_warm_up_starts_at_the_top() -> None:
    assert learning_rate(0, 10, SchedulerSection(min_lr=0.0, max_lr=2.0, warmup_num_steps=0)) == 2.0


def test_a_run_shorter_than_its_warm_up_still_climbs_to_the_top() -> None:
    assert [learning_rate(step, 2, SCHEDULER) for step in range(2)] == [5.0, 9.0]

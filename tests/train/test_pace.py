"""Over how many steps the learning rate falls."""

from __future__ import annotations

import pytest

from callama.train.checkpoint import Progress
from callama.train.pace import schedule_steps
from callama.train.schedule import learning_rate
from tests.train.conftest import Configure


@pytest.mark.parametrize(
    ("given", "planned", "total", "expected"),
    [
        (None, 100, 100, 100),
        (5000, 100, 100, 5000),  # the run ends on its way down
        (60, 100, 100, 60),
        (None, 100, 40, 40),  # train.max_minutes cuts the run short
        (5000, 100, 40, 2000),
        (30, 100, 40, 30),
        (60, 100, 40, 40),
    ],
)
def test_the_rate_falls_over_what_was_asked_for(
    configure: Configure, given: int | None, planned: int, total: int, expected: int
) -> None:
    config = configure(scheduler__total_num_steps=given)
    assert schedule_steps(config, Progress(planned_steps=planned, total_steps=total)) == expected


@pytest.mark.parametrize("given", [None, 60, 199, 200, 201, 2000, 10_000])
def test_a_plan_of_one_step_less_hardly_moves_the_rate(configure: Configure, given: int | None) -> None:
    """``train.max_minutes`` plans anew at every step, and may find one more or one less."""
    config = configure(scheduler__total_num_steps=given)
    scheduler = config.scheduler
    for step in range(100, 190):
        rates = [
            learning_rate(step, schedule_steps(config, Progress(planned_steps=200, total_steps=total)), scheduler)
            for total in range(195, 201)
        ]
        assert max(rates) - min(rates) < 0.1 * scheduler.max_lr

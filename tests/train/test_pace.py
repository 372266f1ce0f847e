"""Over how many steps the learning rate falls."""

from __future__ import annotations

import pytest

from callama.train.checkpoint import Progress
from callama.train.pace import schedule_steps
from tests.train.conftest import Configure


@pytest.mark.parametrize(
    ("given", "planned", "total", "expected"),
    [
        (None, 100, 100, 100),
        (5000, 100, 100, 5000),  # the run ends on its way down
        (60, 100, 100, 60),
        (None, 100, 40, 40),  # train.max_minutes cuts the run short
        (5000, 100, 40, 40),
        (30, 100, 40, 30),
    ],
)
def test_the_rate_falls_over_what_was_asked_for(
    configure: Configure, given: int | None, planned: int, total: int, expected: int
) -> None:
    config = configure(scheduler__total_num_steps=given)
    assert schedule_steps(config, Progress(planned_steps=planned, total_steps=total)) == expected

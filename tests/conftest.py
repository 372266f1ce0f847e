"""Puts the repository's root on the path, so that rooms can share strategies (``tests.contract.strategies``), and sets
Hypothesis up: off the clock, because cores are shared, and with the same examples in every run of the same tests, so
that a failure says something about the change. ``pytest --hypothesis-profile=explore`` draws new ones."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

settings.register_profile(
    "callama", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.register_profile("explore", settings.get_profile("callama"), derandomize=False)
settings.load_profile("callama")

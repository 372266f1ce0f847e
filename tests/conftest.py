"""Puts the repository's root on the path, so that rooms can share strategies
(``tests.contract.strategies``), and takes Hypothesis off the clock: cores are shared."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

settings.register_profile("callama", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("callama")

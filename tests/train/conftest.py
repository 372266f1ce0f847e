"""The tiny pipeline's files, once for all tests of training, and a factory for configurations on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from callama.train.config import TrainConfig, load_config
from tests import tiny

Configure = Callable[..., TrainConfig]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are faster so, and sums do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, conversations and built data set; not to be changed."""
    return tiny.write_all(tmp_path_factory.mktemp("world"))


@pytest.fixture
def configure(world: Path, tmp_path: Path) -> Configure:
    """A configuration on ``world``; ``job=`` names the folder below the test's own, the rest changes keys."""

    def make(job: str = "run", root: Path = world, **changes: Any) -> TrainConfig:
        values = tiny.settings(root, tmp_path / job, **changes)
        return load_config(tiny.write_settings(tmp_path / "config.json", values))

    return make


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The job's folder of a configuration with the default ``job=``."""
    return tmp_path / "run" / "job"

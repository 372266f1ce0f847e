"""A checkpoint that is not as it was written is called damaged, with the way to an older one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.train.config import TrainConfig
from callama.train.loop import train
from tests import tiny
from tests.train.conftest import Configure

READ = {
    "lora": ["config.json", "params.json", "trainer.pt", "adapter_config.json", "adapter_model.safetensors"],
    "full": ["config.json", "params.json", "trainer.pt", "consolidated.pth"],
}


@pytest.fixture(scope="module")
def jobs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of each method, with the steps 4 and 8; not to be changed."""
    root = tmp_path_factory.mktemp("jobs")
    for method in READ:
        values = tiny.settings(world, root / method, method=method, checkpoint__save_interval=4)
        train(TrainConfig.model_validate(values))
    return root


def edit(file: Path) -> None:
    """Makes other settings of it, which are as possible, or else flips a byte in the middle."""
    content = file.read_bytes()
    other = content.replace(b'"seed": 3', b'"seed": 2').replace(b'"r": 4', b'"r": 5').replace(b"10000.0", b"10001.0")
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    file.write_bytes(other if other != content else flipped)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [edit, cut, Path.unlink])
@pytest.mark.parametrize(("method", "name"), [(method, name) for method in READ for name in READ[method]])
def test_every_file_that_is_read_is_held_against_the_manifest(
    configure: Configure, jobs: Path, job: Path, damage: object, method: str, name: str
) -> None:
    refused(configure(method=method), jobs / method / "job", job, damage, name)


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_manifest_that_is_damaged_or_missing(configure: Configure, jobs: Path, job: Path, damage: object) -> None:
    refused(configure(), jobs / "lora" / "job", job, damage, "MANIFEST.json")


def refused(config: TrainConfig, whole: Path, job: Path, damage: object, name: str) -> None:
    """And what is advised leads on."""
    assert callable(damage)
    shutil.copytree(whole, job)
    damage(job / "step_000008" / name)
    moved = rf"move {job}/step_000008 elsewhere and " if name == "MANIFEST.json" else ""
    advice = rf"step_000008/{name} is damaged .*older step, {moved}write its name into .*latest"
    with pytest.raises(CallamaError, match=advice):
        train(config, resume=True)
    if moved:
        (job / "step_000008").rename(job.parent / "damaged")
    (job / "latest").write_text("step_000004\n")
    assert train(config, resume=True)["step"] == 8


@pytest.mark.parametrize("latest", ["step_000006", "..", "latest"])
def test_a_latest_that_names_none_says_which_are_there(
    configure: Configure, jobs: Path, job: Path, latest: str
) -> None:
    shutil.copytree(jobs / "lora" / "job", job)
    (job / "latest").write_text(f"{latest}\n")
    named = (
        f"latest names '{latest}', which is no checkpoint; there are step_000004, step_000008: write one of them into"
    )
    with pytest.raises(UsageError, match=named):
        train(configure(), resume=True)
    for step in (4, 8):
        shutil.rmtree(job / f"step_{step:06}")
    with pytest.raises(UsageError, match=r"which is no checkpoint; start over with --fresh"):
        train(configure(), resume=True)


def test_another_jobs_latest_stays(configure: Configure, jobs: Path, job: Path) -> None:
    for copy in (job, job.parent / "keep"):
        shutil.copytree(jobs / "lora" / "job", copy)
    (job.parent / "keep" / "latest").write_text("step_000004\n")
    (job / "latest").write_text("../keep/step_000008\n")
    assert train(configure(), resume=True)["step"] == 8
    assert (job.parent / "keep" / "latest").read_text() == "step_000004\n"

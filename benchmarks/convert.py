"""Conversion of a model of the true 8B shape: speed against copying the same bytes, and peak memory.

Makes a random bf16 checkpoint in Meta's layout (16 GB; deleted afterwards, as is every result once it
was measured) and goes Meta → native → Hugging Face → native, native → eight shards, native → GGUF →
native, and native + rank-32 adapter → merged. Each step runs in a process of its own, so that peak
resident memory is its own. With ``--original DIR``, a
checkout of michaelnny/Llama3-FunctionCalling, its converter is measured on the same Meta folder; it
holds the model twice, so take a smaller ``--layers`` for it. Appends to ``benchmarks/results/convert.json``.

    python -m benchmarks.convert [--layers 32] [--folder .] [--original DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import record
from callama.common.files import atomic_folder
from callama.model.lora import ALL_LINEAR, LoRAParams
from callama.model.params import ModelParams
from callama.weights.adapter import Adapter, read_adapter, save_adapter
from callama.weights.convert import convert
from callama.weights.lazy import Lazy
from callama.weights.merge import merged
from callama.weights.meta import write_meta
from callama.weights.native import open_native, read_params, write_native
from callama.weights.source import Source, expected_shapes
from tests.fetch import llama3_tokenizer_path

RANK = 32


def params_of(layers: int) -> ModelParams:
    """Llama 3 8B with this many of its 32 layers."""
    return ModelParams(4096, layers, 32, 128_256, 8, 1024, 1.3)


def make(folder: Path, layers: int) -> None:
    """Random bf16 weights, block by block, and a random adapter beside them."""
    params = params_of(layers)
    noise = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()

    def lazy(shape: tuple[int, ...]) -> Lazy:
        width = shape[1] if len(shape) > 1 else 1

        def read(start: int, stop: int) -> torch.Tensor:
            count = (stop - start) * width
            return noise.repeat(-(-count // len(noise)))[:count].view(stop - start, *shape[1:])

        return Lazy(shape, torch.bfloat16, read)

    shapes = expected_shapes(params, tied=False)
    tensors = {n: lazy(s) for n, s in shapes.items()}
    write_meta(folder / "meta", Source("random", folder / "random", params, tensors, llama3_tokenizer_path()))
    names = [n.removesuffix(".weight") for n in shapes if n.split(".")[-2] in ALL_LINEAR]
    sizes = {name: shapes[f"{name}.weight"] for name in names}
    factors = {n: (torch.randn(RANK, i) * 0.01, torch.randn(o, RANK) * 0.01) for n, (o, i) in sizes.items()}
    with atomic_folder(folder / "adapter", {}) as out:
        save_adapter(out, Adapter(LoRAParams(RANK, 1.0), factors), params, "random")


def merge_only(folder: Path) -> None:
    """The merge without the measurement of its error, which runs the model and is no copying."""
    base = open_native(folder / "native")
    adapter = read_adapter(folder / "adapter", base.params)
    write_native(folder / "merged", base.params, merged(base.tensors, adapter), None, base.origin())


def measure_error(folder: Path) -> None:
    """The measurement alone."""
    from callama.weights.budget import measure
    from callama.weights.source import DTYPES

    base = open_native(folder / "native")
    adapter = read_adapter(folder / "adapter", read_params(folder / "native"))
    print(measure(base, adapter, {name: merged(base.tensors, adapter, name) for name in DTYPES}), file=sys.stderr)


def copy(folder: Path, source: str) -> None:
    """What every step is compared with: what it reads, copied and synced, nothing more."""
    (folder / "copy").mkdir()
    for file in files_of(folder / source):
        made = shutil.copyfile(file, folder / "copy" / file.name)
        with made.open("rb") as copied:
            os.fsync(copied.fileno())


def files_of(place: Path) -> list[Path]:
    """A file, or the files of a folder."""
    return sorted(place.iterdir()) if place.is_dir() else [place]


def forget(folder: Path) -> None:
    """Takes every file out of the system's cache, so that steps and copies all read from the disk (Linux)."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


STEPS: dict[str, Callable[[Path], object]] = {
    "meta_to_native": lambda folder: convert(folder / "meta", folder / "native", "native"),
    "native_to_hf": lambda folder: convert(folder / "native", folder / "hf", "hf"),
    "hf_to_native": lambda folder: convert(folder / "hf", folder / "again", "native"),
    "native_to_8_shards": lambda folder: write_meta(folder / "shards", open_native(folder / "native"), 8),
    "native_to_gguf": lambda folder: convert(folder / "native", folder / "model.gguf", "gguf"),
    "gguf_to_native": lambda folder: convert(folder / "model.gguf", folder / "again", "native"),
    "merge": merge_only,
    "merge_error": measure_error,
}
SOURCES = {"meta_to_native": "meta", "hf_to_native": "hf", "gguf_to_native": "model.gguf"}  # of the others: "native"
# What may go once a step has been measured.
DONE_WITH = {"hf_to_native": ("hf", "again"), "native_to_8_shards": ("shards",),
             "gguf_to_native": ("model.gguf", "again"), "merge": ("merged",)}  # fmt: skip


def run(command: list[str]) -> dict[str, float]:
    """Seconds and peak resident bytes of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return {
        "seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds, "peak_bytes": usage.ru_maxrss * 1024
    }  # fmt: skip


def main() -> None:
    """Parses, measures, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write; needs four times the model's size")
    parser.add_argument("--original", type=Path, help="a checkout of the original, for its converter")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--copy", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        STEPS[args.step](args.folder)
        return
    if args.copy:
        copy(args.folder, args.copy)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        make(folder, args.layers)
        size = (folder / "meta" / "consolidated.00.pth").stat().st_size
        steps = {}
        for step in STEPS:
            # Disks have moods: what a step is compared with is measured right before it.
            forget(folder)
            source = SOURCES.get(step, "native")
            before = run([sys.executable, "-m", "benchmarks.convert", "--folder", str(folder), "--copy", source])
            shutil.rmtree(folder / "copy")
            forget(folder)
            steps[step] = run([sys.executable, "-m", "benchmarks.convert", "--folder", str(folder), "--step", step])
            steps[step]["copy_seconds"] = before["seconds"]
            for name in DONE_WITH.get(step, ()):
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            report(step, steps[step], size)
        if args.original:
            script = str(args.original / "scripts" / "convert_from_meta_weights.py")
            steps["original_meta_to_native"] = run(
                [sys.executable, script, "--llama3-dir", str(folder / "meta"), "--output-dir", str(folder / "theirs")]
            )
            report("original_meta_to_native", steps["original_meta_to_native"], size)
        result: dict[str, Any] = {
            "layers": args.layers, "bytes": size, "lora_rank": RANK, "steps": steps,
        }  # fmt: skip
    record("convert", result, ("torch",))


def report(step: str, figures: dict[str, float], size: int) -> None:
    """One line: speed, ratio to copying, processor time, memory."""
    seconds = figures["seconds"]
    copying = f"{figures['copy_seconds'] / seconds:5.2f} of copying" if "copy_seconds" in figures else " " * 16
    speed, peak = f"{size / seconds / 1e6:8.0f} MB/s", f"{figures['peak_bytes'] / 2**30:5.2f} GiB"
    print(f"{step:24} {speed}  {copying}  {figures['cpu_seconds']:6.1f} s of CPU  {peak}", flush=True)


if __name__ == "__main__":
    main()

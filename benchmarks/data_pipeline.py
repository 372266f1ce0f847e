"""Cleaning and building: rows per second and peak memory, beside the original project's scripts.

Makes a file of glaive's shape and size (``glaive_rows``), cleans it with one, two and three workers
and compares the outputs byte by byte, then builds a data set of it. With ``--original`` (a checkout of
michaelnny/Llama3-FunctionCalling) its two scripts do the same on the same file, in the same Python.
Peak memory is the sum over a command's processes, shared pages counted once (Linux). Appends the
figures to ``benchmarks/results/data_pipeline.json``.

    python -m benchmarks.data_pipeline [--rows 113000] [--original PATH --tokenizer tokenizer.model]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.glaive_rows import write_rows
from benchmarks.record import record

ROOT = Path(__file__).parents[1]
WORKERS = (2, 1, 3)
POLL_SECONDS = 0.1


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    out, pending = [], [pid]
    while pending:
        out.append(pending.pop())
        for task in Path(f"/proc/{out[-1]}/task").glob("*/children"):
            try:
                pending += map(int, task.read_text().split())
            except OSError:
                continue
    return out


def _resident_bytes(pid: int) -> int:
    """Proportional resident memory of a process and its descendants; 0 where it cannot be read."""
    total = 0
    for member in _family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def measure(command: list[str | Path], rows: int, cwd: Path) -> dict[str, Any]:
    """Runs a command; its time, rate and peak memory.

    Raises:
        SystemExit: the command failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    start, cpu = time.perf_counter(), os.times()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident_bytes(process.pid))
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(map(str, command))} failed:\n{output.read()[-3000:]}")
    after = os.times()
    used = after.children_user + after.children_system - cpu.children_user - cpu.children_system
    return {"seconds": seconds, "rows_per_second": rows / seconds, "cpu_seconds": used, "peak_bytes": peak}


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def ours(source: Path, folder: Path, rows: int, tokenizer: Path | None) -> dict[str, Any]:
    """Cleans with each number of workers and builds once; all cleaned outputs must be equal."""
    result: dict[str, Any] = {}
    hashes = set()
    for workers in WORKERS:
        out = folder / f"cleaned-{workers}.json"
        script = ROOT / "scripts" / "clean_dataset.py"
        command = [sys.executable, script, "--source-file", source, "--save-file", out, "--workers", str(workers)]
        result[f"clean_{workers}_workers"] = measure(command, rows, ROOT)
        hashes.add(_sha256([out, out.with_name(out.name + ".quarantine.jsonl")]))
    result["identical_output"] = len(hashes) == 1
    report = json.loads((folder / "cleaned-2.json.report.json").read_text())
    result["kept"], result["dropped"] = report["kept"], report["dropped"]
    if tokenizer:
        script = ROOT / "scripts" / "build_dataset.py"
        command = [sys.executable, script, "--source-file", folder / "cleaned-2.json", "--tokenizer-file", tokenizer,
                   "--save-dir", folder / "built"]  # fmt: skip
        result["build"] = measure(command, result["kept"], ROOT)
    return result


def original(checkout: Path, source: Path, folder: Path, rows: int, tokenizer: Path | None) -> dict[str, Any]:
    """The original's two scripts."""
    out = folder / "original.json"
    script = checkout / "scripts" / "clean_dataset.py"
    command = [sys.executable, script, "--source-file", source, "--save-file", out]
    result: dict[str, Any] = {"clean": measure(command, rows, checkout)}
    with out.open(encoding="utf-8") as file:
        result["kept"] = len(json.load(file))
    if tokenizer:
        script = checkout / "scripts" / "build_dataset.py"
        command = [sys.executable, script, "--source-file", out, "--tokenizer-file", tokenizer, "--save-dir",
                   folder / "original-built"]  # fmt: skip
        result["build"] = measure(command, result["kept"], checkout)
    return result


def show(label: str, figures: dict[str, Any]) -> None:
    """One line about one command."""
    rate, seconds, peak = figures["rows_per_second"], figures["seconds"], figures["peak_bytes"] / 2**30
    print(f"{label:24} {rate:10,.0f} rows/s {seconds:8.1f} s {figures['cpu_seconds']:8.1f} CPU s {peak:6.2f} GiB peak")


def main() -> None:
    """Parses, measures, prints, appends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=113_000)
    parser.add_argument("--original", type=Path, help="checkout of the original project; without it, ours alone")
    parser.add_argument("--tokenizer", type=Path, help="a Llama 3 tokenizer.model; without it, nothing is built")
    args = parser.parse_args()
    tokenizer = args.tokenizer.resolve() if args.tokenizer else None
    with tempfile.TemporaryDirectory(prefix="data-pipeline-") as place:
        folder = Path(place)
        source = folder / "rows.json"
        write_rows(source, args.rows)
        load = os.getloadavg()[0]
        result: dict[str, Any] = {
            "rows": args.rows, "bytes": source.stat().st_size,
            "ours": ours(source, folder, args.rows, tokenizer),
        }  # fmt: skip
        if args.original:
            result["original"] = original(args.original.resolve(), source, folder, args.rows, tokenizer)
    for label, figures in result["ours"].items():
        if isinstance(figures, dict):
            show(f"callama {label.replace('_', ' ')}", figures)
    print(f"identical output: {result['ours']['identical_output']}; kept {result['ours']['kept']:,}")
    if "original" in result:
        for step in ("clean", "build"):
            if step in result["original"]:
                show(f"original {step}", result["original"][step])
        theirs = result["original"]["clean"]["rows_per_second"]
        result["clean_speed_ratio"] = result["ours"]["clean_2_workers"]["rows_per_second"] / theirs
        print(f"cleaning, 2 workers: {result['clean_speed_ratio']:.2f} x the original's rows/s")
        if tokenizer:
            built = result["ours"]["build"]["rows_per_second"] / result["original"]["build"]["rows_per_second"]
            result["build_speed_ratio"] = built
            print(f"building: {built:.2f} x the original's rows/s")
    record("data_pipeline", {**result, "load_at_start": round(load, 2)}, ("pyarrow", "tokenizers"))


if __name__ == "__main__":
    main()

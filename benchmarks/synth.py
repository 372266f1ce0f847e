"""Synthesis: conversations per minute, memory, how many requests differ, and how varied they are.

Writes the same data set with one, two and three workers and compares the files byte by byte; measures peak
memory at two sizes, which must not differ by much. Then counts requests (the first thing that a user
says, where a call with arguments answers it) until the first that was said before, distinct-n (distinct n-grams
by all n-grams) and self-BLEU (the mean BLEU-4 of a request against 500 others, so lower is more varied).
``--bfcl FOLDER`` adds the share of word n-grams that also stand in BFCL's requests. Appends to
``benchmarks/results/synth.json``.

    python -m benchmarks.synth [--count 200000] [--bfcl .cache/bfcl]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data_pipeline import measure
from benchmarks.record import record
from callama.evaluate.bfcl.suites import load_bfcl

ROOT = Path(__file__).parents[1]
_WORD = re.compile(r"[^\W_]+")


def write(out: Path, count: int, workers: int) -> dict[str, Any]:
    """One run of ``callama synth``: seconds, peak memory and the hash of what it wrote."""
    code = "from callama.cli.main import main; main()"
    options = [
        "--out",
        out,
        "--count",
        str(count),
        "--held-out-count",
        "0",
        "--val-ratio",
        "0",
        "--workers",
        str(workers),
        "--seed",
        "7",
    ]
    done = measure([sys.executable, "-c", code, "synth", *options], count, ROOT)
    with (out / "train.jsonl").open("rb") as file:
        return {**done, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def requests(path: Path) -> Iterator[str]:
    """First requests of a file's conversations that are answered by a call with arguments."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            asked, answer = [m for m in json.loads(line)["messages"] if m["role"] != "system"][:2]
            if any(call["function"]["arguments"] for call in answer.get("tool_calls", ())):
                yield asked["content"]


def repeats(said: Sequence[str]) -> dict[str, Any]:
    """Where the first exact repeat stands, and how many of all are distinct."""
    seen: set[str] = set()
    first = None
    for i, text in enumerate(said):
        if text in seen and first is None:
            first = i
        seen.add(text)
    return {"requests": len(said), "distinct": len(seen), "first_repeat_at": first}


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    """Word n-grams, in small letters."""
    words = _WORD.findall(text.lower())
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct(said: Sequence[str], n: int) -> float:
    """Distinct-n (Li et al. 2016): distinct n-grams by all n-grams."""
    found = [gram for text in said for gram in grams(text, n)]
    return len(set(found)) / len(found)


def bleu(text: str, others: Sequence[str]) -> float:
    """BLEU-4 of one text against references (Papineni et al. 2002), with add-one smoothing above 1-grams."""
    logs = 0.0
    for n in range(1, 5):
        own = Counter(grams(text, n))
        best: Counter[tuple[str, ...]] = Counter()
        for other in others:
            best |= Counter(g for g in grams(other, n) if g in own)
        matched, total, smooth = sum((own & best).values()), sum(own.values()), int(n > 1)
        if matched + smooth == 0 or total + smooth == 0:
            return 0.0
        logs += math.log((matched + smooth) / (total + smooth)) / 4
    length = len(grams(text, 1))
    nearest = min((len(grams(o, 1)) for o in others), key=lambda other: abs(other - length))
    return math.exp(logs) * min(1.0, math.exp(1 - nearest / max(1, length)))


def self_bleu(said: Sequence[str], sample: int = 200, references: int = 500) -> float:
    """Self-BLEU (Zhu et al. 2018) of a sample."""
    rng = random.Random(1)
    chosen = rng.sample(range(len(said)), min(len(said), sample + references))
    others = [said[i] for i in chosen[sample:]]
    return sum(bleu(said[i], others) for i in chosen[:sample]) / min(sample, len(chosen))


def overlap(said: Sequence[str], folder: Path) -> dict[str, Any]:
    """The share of our distinct n-grams that stand in BFCL's requests, and requests that are equal."""
    cases = [case for suite in load_bfcl("bfcl", folder) for case in suite.cases]
    theirs = [m.content or "" for case in cases for m in case.prompt.messages if m.role == "user"]
    out: dict[str, Any] = {"their_requests": len(theirs), "equal_requests": len(set(said) & set(theirs))}
    for n in (8, 10, 13):
        own, other = ({g for text in texts for g in grams(text, n)} for texts in (said, theirs))
        out[f"shared_{n}_grams"] = len(own & other)
        out[f"own_{n}_grams"] = len(own)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--bfcl", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = {str(w): write(Path(temporary) / str(w), arguments.count, w) for w in (1, 2, 3)}
        small = write(Path(temporary) / "small", arguments.count // 4, 2)
        said = list(requests(Path(temporary) / "2" / "train.jsonl"))
    result = {
        "conversations": arguments.count,
        "runs": runs,
        "conversations_per_minute": {w: round(arguments.count / run["seconds"] * 60) for w, run in runs.items()},
        "a_quarter_of_it": small,
        "identical_for_1_2_3_workers": len({run["sha256"] for run in runs.values()}) == 1,
        **repeats(said),
        "distinct_n": {n: round(distinct(said[:20_000], n), 4) for n in (1, 2, 3, 4)},
        "self_bleu_4": round(self_bleu(said), 4),
    }
    if arguments.bfcl:
        result["bfcl"] = overlap(said[:20_000], arguments.bfcl)
    record("synth", result, ("numpy",))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

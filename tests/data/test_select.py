"""Duplicates, phrasings and mixtures, on conversations that show each case."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import UsageError
from callama.data.clean import CleanResult, clean_files
from callama.data.work import Rules

WORDS = ("red", "blue", "green", "old", "new", "small", "large", "quiet", "loud", "warm", "cold", "near", "far", "late")


def talk(user: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def story(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def cleaned(folder: Path, *sources: list[Any], rules: Rules | None = None, **options: Any) -> CleanResult:
    folder.mkdir(exist_ok=True)
    paths = []
    for index, rows in enumerate(sources):
        paths.append(folder / f"in{index}.jsonl")
        paths[-1].write_text("\n".join(map(json.dumps, rows)))
    return clean_files(paths, folder / "out.jsonl", rules, **options)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def reasons(result: CleanResult) -> list[tuple[int, str]]:
    return [(entry["row"], entry["reason"]) for entry in lines(result.quarantine)]


def test_the_first_of_equals_is_kept(tmp_path: Path) -> None:
    base = story(1)
    near = base.replace(base.split()[30], "violet", 1)
    other = {**talk("Hi 0", base), "tools": [{"name": "f"}]}
    rows = [talk("Hi 0", base), talk("Hi 0", story(2)), talk("Hi 0", base), talk("Hi 0", near), other]
    result = cleaned(tmp_path, rows)
    assert reasons(result) == [(2, "exact_duplicate"), (3, "near_duplicate"), (4, "exact_duplicate")]
    assert all(entry["detail"] == "repeats record 0 of all that were read" for entry in lines(result.quarantine))
    assert lines(result.quarantine)[1]["conversation"]["messages"][1]["content"] == near
    kept = cleaned(tmp_path, rows, rules=Rules(remove_duplicates=False))
    assert kept.tally.kept == 5


def test_equal_words_under_another_call_are_no_duplicate(tmp_path: Path) -> None:
    def calling(city: str) -> dict[str, Any]:
        call = {"id": "a", "function": {"name": "f", "arguments": {"city": city}}}
        said = [
            {"role": "user", "content": f"Weather in {city}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
        return {"messages": said, "tools": [{"name": "f", "parameters": {"city": {"type": "str"}}}]}

    assert cleaned(tmp_path, [calling("Oslo"), calling("Rome")]).tally.kept == 2


def test_duplicates_are_found_across_sources(tmp_path: Path) -> None:
    result = cleaned(tmp_path, [talk("Hi", story(1))], [talk("Hi", story(1)), talk("Hi", story(2))])
    (entry,) = lines(result.quarantine)
    assert (entry["file"], entry["row"], entry["reason"]) == ("in1.jsonl", 0, "exact_duplicate")
    assert [c["labels"]["file"] for c in lines(result.out)] == ["in0.jsonl", "in1.jsonl"]


def test_phrasings_are_thinned_by_a_draw_that_the_seed_decides(tmp_path: Path) -> None:
    rows = [talk(f"I need a number between 1 and {n}", story(n)) for n in range(40)]
    rows += [talk(f"Something else, {story(n, 8)}", story(n + 50)) for n in range(5)]

    def kept(seed: int) -> list[int]:
        result = cleaned(tmp_path, rows, rules=Rules(max_per_phrasing=7, seed=seed))
        assert Counter(reason for _, reason in reasons(result)) == {"over_represented_phrasing": 33}
        return [c["labels"]["row"] for c in lines(result.out)]

    assert kept(1) == kept(1) != kept(2)
    assert kept(1)[-5:] == [40, 41, 42, 43, 44]
    assert cleaned(tmp_path, rows, rules=Rules(max_per_phrasing=0)).tally.kept == 45


@pytest.mark.parametrize(
    ("mix", "kept"), [([1, 1], (10, 10)), ([3, 1], (30, 10)), ([1, 0], (40, 0)), ([8, 1], (40, 5))]
)
def test_sources_are_mixed_in_their_shares(tmp_path: Path, mix: list[float], kept: tuple[int, int]) -> None:
    many, few = [talk("Hi", story(n)) for n in range(40)], [talk("Hi", story(n)) for n in range(40, 50)]
    result = cleaned(tmp_path, many, few, mix=mix)
    counts = Counter(c["labels"]["file"] for c in lines(result.out))
    assert (counts["in0.jsonl"], counts["in1.jsonl"]) == kept
    assert Counter(reason for _, reason in reasons(result)) == {"over_mix": 50 - sum(kept)}
    over = {name: n - k for name, n, k in zip(("in0.jsonl", "in1.jsonl"), (40, 10), kept, strict=True) if n > k}
    assert json.loads(result.report.read_text())["over_mix_by_source"] == over


def test_a_mixture_must_fit_its_sources(tmp_path: Path) -> None:
    for mix in ([1.0], [1, 2, 3], [-1, 1], [0, 0], [float("nan"), 1], [float("inf"), 1]):
        with pytest.raises(UsageError, match="--mix"):
            cleaned(tmp_path, [talk("a", "b")], [talk("c", "d")], mix=mix)


def test_output_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [talk(f"Tell me {rng.choice(WORDS)} {n % 90}", story(n % 90)) for n in range(700)] + [7, {"x": 1}]
    outputs = []
    for workers in (1, 2, 3):
        result = cleaned(tmp_path / str(workers), rows, rules=Rules(max_per_phrasing=5), workers=workers)
        assert result.tally.read == 702 == result.tally.kept + result.tally.dropped
        report = json.loads(result.report.read_text())
        same = {k: v for k, v in report.items() if k not in ("sources", "out", "quarantine", "workers", "seconds")}
        outputs.append((result.out.read_bytes(), result.quarantine.read_bytes(), same))
    assert outputs[0] == outputs[1] == outputs[2]

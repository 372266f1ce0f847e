"""Runs models over the same cases and puts the figures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import sha256_file
from callama.common.progress import Meter
from callama.contract.grammar import Choice
from callama.data.read import read_conversations
from callama.evaluate.cases import Case, cases_of
from callama.evaluate.report import rates
from callama.evaluate.score import Outcome, score
from callama.generate.chat import ChatModel
from callama.text.tokenizer import load_tokenizer
from callama.weights.native import read_native


@dataclass(frozen=True)
class Evaluation:
    """Outcomes of each model on the same cases, in the same order, and the report as data."""

    outcomes: dict[str, list[Outcome]]
    report: dict[str, Any]


def load_cases(suite: Path, limit: int | None) -> list[Case]:
    """The cases of a conversation file; ``limit`` takes that many conversations from its start.

    Raises:
        UsageError: no such file. CallamaError: no assistant turn in it.
    """
    conversations = list(read_conversations(suite))
    cases = cases_of(conversations[:limit])
    if not cases:
        raise CallamaError(f"{suite} holds no assistant turn to test; expected conversations with answers")
    return cases


def answer_cases(
    name: str, model: ChatModel, cases: Sequence[Case], max_new_tokens: int, choice: Choice | None = None
) -> list[Outcome]:
    """Greedy answers of one model, scored; free, or constrained by a ``choice``."""
    with Meter(f"evaluating {name}", len(cases), "cases") as meter:
        prompts = [case.prompt for case in cases]
        texts = model.answer(prompts, max_new_tokens, on_done=lambda _: meter.advance(), choice=choice)
    return [score(case, text) for case, text in zip(cases, texts, strict=True)]


def evaluate(
    suite: Path,
    models: Mapping[str, Path],
    *,
    limit: int | None = None,
    max_new_tokens: int = 160,
    slots: int = 16,
    adapters: Mapping[str, Path] | None = None,
    constrained: bool = False,
) -> Evaluation:
    """Evaluates model folders by name (``base``, ``tuned``) on a file of conversations; ``adapters`` by
    the same names are applied unmerged.

    Raises:
        UsageError: the suite or a model is missing. CallamaError: one of them is damaged.
    """
    cases = load_cases(suite, limit)
    for folder in models.values():
        read_native(folder)  # cheap, and a slip in the second folder must not cost the first one's time
        load_tokenizer(folder)
    outcomes = {}
    for name, folder in models.items():
        model = ChatModel(folder, slots=slots, adapter=(adapters or {}).get(name))
        outcomes[name] = answer_cases(name, model, cases, max_new_tokens, Choice() if constrained else None)
    report: dict[str, Any] = {
        "suite": {"file": suite.name, "sha256": sha256_file(suite), "cases": len(cases)},
        "decoding": {"temperature": 0.0, "constrained": constrained, "max_new_tokens": max_new_tokens},
        **{name: rates(of) for name, of in outcomes.items()},
    }
    return Evaluation(outcomes, report)

"""Nothing of BFCL stands in what is synthesised: no tool's name, no description, no request, hardly any run of
eight words. Scores on BFCL would mean little otherwise."""

from __future__ import annotations

import re

import pytest

from callama.evaluate.bfcl.suites import load_bfcl
from callama.evaluate.cases import Case
from callama.synth.catalogue import load_catalogue
from callama.synth.engine import synthesise
from callama.synth.names import spelled
from tests import fetch


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case for suite in load_bfcl("bfcl", fetch.bfcl_dir()) for case in suite.cases]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def test_no_training_tool_is_named_or_described_as_one_of_bfcl(cases: list[Case]) -> None:
    tools = [tool for case in cases for tool in case.prompt.tools]
    names = {spelled(t.name) for t in tools}
    described = {" ".join(words(t.description)) for t in tools} - {""}
    for spec in load_catalogue().side("train"):
        assert spelled(spec.name) not in names, spec.name
        assert " ".join(words(spec.tool.description)) not in described, spec.name


def test_requests_share_no_long_run_of_words_with_bfcl(cases: list[Case]) -> None:
    theirs = [m.content or "" for case in cases for m in case.prompt.messages if m.role == "user"]
    ours = [m.content or "" for c in synthesise(4000, 9, side="train") for m in c.messages if m.role == "user"]
    own, other = (set().union(*(grams(text, 8) for text in texts)) for texts in (ours, theirs))
    assert len(own & other) / len(own) < 0.0002
    own, other = (set().union(*(grams(text, 10) for text in texts)) for texts in (ours, theirs))
    assert not own & other
    # "How are you today?" is nobody's; whatever is longer may not be equal.
    assert not {t for t in ours if len(words(t)) > 4} & set(theirs)

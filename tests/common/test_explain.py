"""Faults of settings in plain words: key, expected form, what was found, a value that is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from callama.common.explain import explain
from callama.train.config import TrainConfig


class Inner(BaseModel):
    """A section."""

    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=4, gt=0, le=9)


class Outer(BaseModel):
    """A file."""

    model_config = ConfigDict(extra="forbid")
    files: list[str] = Field(min_length=1, examples=[["a.jsonl"]])
    kind: Literal["one", "two", None] = "one"
    inner: Inner = Field(default_factory=Inner)
    other: Inner | None = Field(default=None, alias="other_section")
    pair: tuple[float, float] = (0.5, 1)
    exact: Literal[True] = True

    @model_validator(mode="after")
    def _agrees(self) -> Outer:
        if self.pair[0] > self.pair[1]:
            raise ValueError("pair {in order}")
        return self


def told(model: type[BaseModel], value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return explain(model, caught.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "the key 'files' is missing; for example \"files\": [\"a.jsonl\"]"),
        ({"files": "a"}, 'files: expected a list, found "a"; for example "files": ["a.jsonl"]'),
        ({"files": []}, 'files: expected a list with at least 1 in it, found []; for example "files": ["a.jsonl"]'),
        ({"files": [3]}, 'files.0: expected a text, found 3; for example "files": ["a.jsonl"]'),
        ({"files": ["a"], "kind": 3}, 'kind: expected one of "one", "two", null, found 3; for example "kind": "one"'),
        ({"files": ["a"], "exact": False}, 'exact: expected true, found false; for example "exact": true'),
        ({"files": ["a"], "inner": 3}, 'inner: expected an object with settings, found 3; for example "inner": '
         '{"size": 4}'),
        ({"files": ["a"], "inner": {"size": 0}}, 'inner.size: expected a number greater than 0, found 0; for example '
         '"size": 4'),
        ({"files": ["a"], "other_section": {"size": "x" * 99}}, "other_section.size: expected a whole number, found "
         f'"{"x" * 79}…; for example "size": 4'),
        ({"files": ["a"], "other_section": {"sise": 1}}, "unknown key 'other_section.sise' (did you mean 'size'?); "
         "known here are size"),
        ({"files": ["a"], "pair": [1, "é"]}, 'pair.1: expected a number, found "é"; for example "pair": [0.5, 1]'),
        ({"files": ["a"], "pair": [2, 1]}, "pair {in order}"),
        ({"files": 1, "pair": 2}, 'files: expected a list, found 1; for example "files": ["a.jsonl"] '
         "(1 more of its settings are wrong)"),
        ([], "expected an object with settings"),
    ],
)  # fmt: skip
def test_sentences(value: Any, sentence: str) -> None:
    assert told(Outer, value) == sentence


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, here)
        yield here


REQUIRED = {"model_ckpt_file": "a", "train": {"dataset_sources": ["a"]}}


@pytest.mark.parametrize("path", list(leaves(TrainConfig)), ids=".".join)
@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}], -1.5, "\x00"], ids=repr)
def test_no_sentence_of_the_library_reaches_the_user(path: tuple[str, ...], value: Any) -> None:
    settings: dict[str, Any] = json.loads(json.dumps(REQUIRED))
    node = settings
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    try:
        TrainConfig.model_validate(settings)
    except ValidationError as error:
        sentence = explain(TrainConfig, error)
        assert "Input should" not in sentence and "valid" not in sentence.replace("validation", "")
        assert sentence.startswith((".".join(path), "unknown key", "the key")) and "Undefined" not in sentence

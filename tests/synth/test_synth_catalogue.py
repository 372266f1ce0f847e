"""The catalogue is large enough, keeps its two sides apart, and says what is wrong with a bad entry."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.synth.catalogue import Catalogue, load_catalogue, slots
from callama.synth.disguise import dress
from callama.synth.formulas import names_in
from callama.synth.moments import long_date
from callama.synth.names import other_name, other_parameter, words_of
from callama.synth.speech import make_values
from callama.synth.values import make

TOOL: dict[str, Any] = {
    "name": "book_boat",
    "task": "book a boat",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "seats": {"type": "integer"}, "roof": {"type": "boolean"}},
        "required": ["city"],
    },
    "makers": {"city": "city", "seats": "int 2 9"},
    "requests": ["A boat in {city}, please."],
    "optional": {"seats": ["with {seats} seats"], "roof": ["{roof}"]},
    "says": {"roof": {"true": ["with a roof"]}},
    "missing": {"city": {"question": "In which city?", "requests": ["I need a boat."]}},
    "result": {"id": "@record"},
    "answers": ["Your boat in {city} is {id}."],
}


def test_catalogue_is_broad() -> None:
    catalogue = load_catalogue()
    domains = {s.domain for s in catalogue.specs}
    held_out = {s.domain for s in catalogue.side("held_out")}
    assert len(catalogue.specs) >= 400
    assert len(domains) >= 40
    assert len(held_out) >= 3
    assert 30 <= len(catalogue.side("held_out")) <= 40
    assert not held_out & {s.domain for s in catalogue.side("train")}


def test_every_kind_of_parameter_occurs_on_both_sides() -> None:
    catalogue = load_catalogue()
    for side in ("train", "held_out"):
        specs = catalogue.side(side)
        leaves = [leaf for s in specs for leaf in s.leaves.values()]
        assert {"string", "integer", "number", "boolean", "array"} <= {str(leaf["type"]) for leaf in leaves}
        assert any("enum" in leaf for leaf in leaves)
        assert any(leaf.get("format") == "date" for leaf in leaves)
        assert any("." in path for s in specs for path in s.leaves), "nested objects"
        assert any(not s.leaves for s in specs), "tools without parameters"


def test_training_tools_are_of_all_kinds() -> None:
    specs = load_catalogue().side("train")
    names = [s.name for s in specs]
    forms = {
        "snake_case": r"[a-z]+(_[a-z]+)+", "camelCase": r"[a-z]+([A-Z][a-z]*)+", "PascalCase": r"([A-Z][a-z]+){2,}",
        "dotted": r".+\..+",
    }  # fmt: skip
    for form, pattern in forms.items():
        assert sum(bool(re.fullmatch(pattern, n)) for n in names) >= 15, form
    described = [len(s.tool.description) for s in specs]
    assert described.count(0) >= 60
    assert sum(length > 45 for length in described) >= 20
    leaves = [leaf for s in specs for leaf in s.leaves.values()]
    assert sum(leaf.get("items", {}).get("type") == "object" for leaf in leaves) >= 3, "arrays of objects"
    assert sum("default" in leaf for leaf in leaves) >= 60
    assert sum("." in path for s in specs for path in s.leaves) >= 40, "nested objects"
    assert sum(not s.leaves for s in specs) >= 12, "tools without parameters"
    assert {code for s in specs for code in s.languages} >= {"de", "fr", "es", "it", "pt"}


def _load(folder: Path, *tools: dict[str, Any]) -> Catalogue:
    (folder / "boats.json").write_text(json.dumps({"side": "train", "tools": list(tools)}))
    load_catalogue.cache_clear()
    return load_catalogue(folder)


def test_a_good_tool_is_accepted(tmp_path: Path) -> None:
    (spec,) = _load(tmp_path, TOOL).side("train")
    assert (spec.name, spec.tool.parameters, spec.required) == ("book_boat", TOOL["parameters"], {"city"})
    assert list(spec.requests) == TOOL["requests"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["makers"], {"seats": "int 2 9"}, "parameter 'city' has no value maker"),
        (["makers", "city"], "town", "no value maker 'town'"),
        (["makers", "seats"], "city", "is not of type"),
        (["makers", "wings"], "int 1 2", "'wings' is not a parameter"),
        (["requests"], ["A boat, please."], "lacks the slot {city}"),
        (["requests"], ["A boat in {city} by {night}."], "has the slot {night}"),
        (["optional"], {"roof": ["{roof}"]}, "nothing says how 'seats' is asked for"),
        (["says"], {}, "boolean 'roof' needs words"),
        (["missing"], {}, "required parameter 'city' has no question"),
        (["missing", "city", "requests"], ["A boat in {city}."], "has the slot {city}"),
        (["missing", "city", "question"], "Where in {city}?", "has the slot {city}"),
        (["labels"], {"mast": "mast"}, "'mast' is not a parameter"),
        (["answers"], ["It costs {price}."], "has the slot {price}"),
        (["result"], {"id": "= wings + 1"}, "no parameter or earlier result 'wings'"),
        (["result"], {"id": "= 1 / 0"}, "cannot be worked out"),
        (["result"], {"id": "= city.__class__"}, "no parameter or earlier result 'city.__class__'"),
        (["result"], {"id": "= open('x')"}, "cannot stand in a formula"),
        (["no_result_with"], ["mast"], "'mast' is no optional parameter"),
        (["no_result_with"], ["city"], "'city' is no optional parameter"),
        (["like"], ["book_ship"], "there is no tool 'book_ship'"),
        (["task"], None, "'task'"),
        (["colour"], "red", "unknown key 'colour'"),
    ],
)
def test_errors_name_file_tool_and_key(tmp_path: Path, path: list[str], value: Any, message: str) -> None:
    tool = copy.deepcopy(TOOL)
    place = tool
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(CallamaError) as error:
        _load(tmp_path, tool)
    assert "boats.json: tool book_boat" in str(error.value)
    assert message in str(error.value)
    assert path[0] in str(error.value)


def test_a_name_is_declared_once(tmp_path: Path) -> None:
    with pytest.raises(CallamaError, match="already declared in boats"):
        _load(tmp_path, TOOL, TOOL)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallamaError, match=r"no DOMAIN\.json"):
        load_catalogue(tmp_path / "nothing")


def test_values_are_wide_and_seeded() -> None:
    rng = random.Random(1)
    for spec, least in (("city", 150), ("full_name", 900), ("title", 900), ("message", 600), ("email", 990)):
        assert len({make(spec, rng) for _ in range(1000)}) >= least, spec
    assert make("list 2 4 city", random.Random(5)) == make("list 2 4 city", random.Random(5))
    labels = make("list 2 9 noun", rng)
    assert len(make("as_many labels int 1 99", rng, {"labels": labels})) == len(labels)
    assert long_date("2025-03-04") == "March 4, 2025"


NOUNS = {"withdrawOrder": "order", "traffic_report": "report", "overtime_pay": "pay", "packing_list": "list",
         "post.analytics": "post", "fact_check": "check", "book.reserve": "book"}  # fmt: skip
TURNED = {
    "check_url": "get", "outage_ticket.open": "unlock", "permits.apply": "redeem use", "playlist.add": "create put",
    "reminders.set": "configure", "move_event": "relocate transfer", "lost_property.report": "submit file",
    "buyTickets": "get", "convert_temperature": "change",
}  # fmt: skip
ADDED = {"api", "v", "2", "service", "tool", "action", "app", "my"}


def renamed(name: str, *, reworded: bool) -> set[str]:
    return {other_name(name, random.Random(seed), reworded=reworded) for seed in range(120)}


def test_other_names_of_tools_mean_the_same() -> None:
    """Only the verb changes, which stands first, or behind the dot; nouns that are spelled like verbs stay."""
    changed = set()
    for spec in load_catalogue().specs:
        own = words_of(spec.name)
        verb = words_of(spec.name.rpartition(".")[2])[0]
        for name in renamed(spec.name, reworded=True):
            words = [w for w in words_of(name) if w not in ADDED or w in own]
            if set(words) != set(own):
                changed.add(spec.name)
                assert set(own) - set(words) == {verb}, name
                assert spec.name not in NOUNS or verb != NOUNS[spec.name], name
                assert not set(TURNED.get(spec.name, "").split()) & set(words), name
            else:
                # What stands where an act does was one before.
                act = words[-1 if "." in name else 0]
                assert name == spec.name or act == verb or act not in NOUNS.values(), name
            assert words.count("book") < 2, name
    assert len(changed) > 120
    assert "withdrawOrder" not in changed


def test_a_name_in_other_words_keeps_its_description() -> None:
    reworded = 0
    for spec in load_catalogue().side("train"):
        for seed in range(60):
            tool = dress(spec, (), (), random.Random(seed)).tool
            if not set(words_of(spec.name)) <= set(words_of(tool.name)):
                reworded += 1
                assert tool.description == spec.tool.description != "", tool.name
    assert reworded > 300


def test_other_names_of_parameters_fit_their_values() -> None:
    """No count for a list, no name for a number, and the unit stays."""
    affixes = {"param", "input", "the"}
    units = {"minutes": {"minutes"}, "kg": {"kg", "kilograms"}}
    numbers = {"count", "number", "quantity", "minutes", "kilograms", "limit", "max", "price", "amount", "many"}
    seen = set()
    for spec in load_catalogue().specs:
        for name, schema in spec.tool.parameters["properties"].items():
            for seed in range(60):
                other = set(words_of(other_parameter(name, schema, "snake", random.Random(seed)))) - affixes
                own = set(words_of(name))
                if other == own - affixes:
                    continue
                seen.add(name)
                assert schema["type"] not in ("array", "object"), (spec.name, name, other)
                codes = "order" in other or "phone" in other
                if other & numbers and not codes:
                    assert schema["type"] in ("integer", "number"), (spec.name, name, other)
                assert not (schema["type"] in ("integer", "number") and "name" in other), (spec.name, name, other)
                for unit, words in units.items():
                    assert unit not in own or other & words, (spec.name, name, other)
    assert len(seen) > 25


def test_no_article_stands_before_another() -> None:
    for spec in load_catalogue().specs:
        templates = [
            *spec.requests,
            *(t for phrases in (*spec.optional.values(), *spec.again.values()) for t in phrases),
        ]
        for gap in spec.missing.values():
            templates += [*gap.requests, *gap.replies]
        for template in templates:
            for path in slots(template):
                if re.search(rf"\b(an?|the) \{{{re.escape(path)}\}}", template, re.IGNORECASE):
                    said = [word for words in spec.says.get(path, {}).values() for word in words]
                    assert not [w for w in said if re.match(r"(an?|the|some|my) ", w)], (spec.name, template)


def test_the_column_to_predict_is_not_left_out() -> None:
    spec = next(s for s in load_catalogue().specs if s.name == "train_model")
    for seed in range(300):
        made = make_values(spec, random.Random(seed))
        assert made["target"] not in made["exclude_columns"]


# Options that choose what a result tells, by their names; others narrow down what it is about.
_CHOOSING = re.compile(
    r"([Ii]nclude|with|by)(?=_|[A-Z])|([Mm]etrics?|fields|details|include|aspect|section|events|pollutant)$"
)
# A desk with power, a number of pieces that counts the reserved ones: the result agrees, whatever it says.
_DOING = {"reserve_desk", "warehouse.stock"}


def test_no_result_ignores_what_it_was_asked_for() -> None:
    seen = 0
    for spec in load_catalogue().specs:
        formulas = [raw[2:] for raw in spec.result.values() if isinstance(raw, str) and raw.startswith("= ")]
        followed = {name for formula in formulas for name in names_in(formula)} | set(spec.no_result_with)
        for name in spec.optional if spec.result else ():
            if _CHOOSING.match(name) and spec.name not in _DOING:
                seen += 1
                assert name in followed, (spec.name, name)
    assert seen > 20


def test_no_answer_asks_and_answers_itself() -> None:
    for spec in load_catalogue().specs:
        for answer in spec.answers:
            assert not re.search(r"\? \{\w+\}\.?$", answer), (spec.name, answer)

"""Each scenario keeps its promise, and what it makes passes the audits of cleaned data: canonical form, schemas,
grounding, the way to the model's text and back."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import re
from collections import Counter
from dataclasses import replace

import jsonschema_rs
import pytest

from callama.contract.jsontext import loads_strict
from callama.contract.messages import Conversation
from callama.contract.tool_uses import answer_segments, parse_answer
from callama.data.grounding import audit
from callama.synth.catalogue import Side, load_catalogue
from callama.synth.engine import synthesise
from callama.synth.scenarios import SCENARIOS
from callama.synth.scenarios.corrected_call import _correctable
from callama.synth.scenarios.injection import injection
from callama.synth.scenarios.invalid_value import _breakable, _broken, invalid_value
from callama.synth.scenarios.missing_argument import missing_argument
from callama.synth.scenarios.parallel_same import _takes_several
from callama.synth.scenarios.sequence import links, sequence
from callama.synth.speech import Ask, changed, make_values
from callama.synth.stage import Calls, NoFitError, Results, Say, Stage, User, result_of
from callama.synth.ways import from_today, misspelt, number_word, with_slip


def stage_of(seed: int) -> Stage:
    catalogue = load_catalogue()
    return Stage(random.Random(seed), catalogue.side("train"), catalogue.talk, "train", frozenset())


@functools.cache
def train(scenario: str) -> tuple[Conversation, ...]:
    return tuple(synthesise(300, 5, side="train", scenarios=[scenario]))


@functools.cache
def made(scenario: str) -> tuple[Conversation, ...]:
    return train(scenario) + tuple(synthesise(60, 5, side="held_out", scenarios=[scenario]))


def spoken(c: Conversation) -> list[str]:
    """Roles without the system's; an assistant that calls is a "call"."""
    return ["call" if m.tool_calls else m.role for m in c.messages if m.role != "system"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_audits_pass(scenario: str) -> None:
    for c in made(scenario):
        assert c.labels["scenario"] == scenario
        assert Conversation.from_dict(c.to_dict()) == c
        schemas = {t.name: t.parameters for t in c.tools}
        for message in c.messages:
            for call in message.tool_calls:
                jsonschema_rs.validate(schemas[call.name], call.arguments)
            if message.role == "assistant":
                answer = parse_answer("".join(s.text for s in answer_segments(message)))
                assert answer.kind == ("call" if message.tool_calls else "text")
                assert [(k.name, k.arguments) for k in answer.calls] == [
                    (k.name, k.arguments) for k in message.tool_calls
                ]
        assert not [a for a in audit(c) if a.ground == "ungrounded"], c.messages


def test_sequence_passes_a_result_on() -> None:
    for c in made("sequence"):
        assert spoken(c)[:4] == ["user", "call", "tool", "call"]
        first, second = [m.tool_calls[0] for m in c.messages if m.tool_calls]
        result = next(m.content or "" for m in c.messages if m.role == "tool")
        asked = next(m.content or "" for m in c.messages if m.role == "user")
        assert first.name != second.name
        results = {str(v) for v in loads_strict(result).values()}
        passed = [str(v) for v in second.arguments.values() if str(v) in results]
        assert passed and any(p not in asked for p in passed)


def test_sequences_are_possible_on_both_sides() -> None:
    catalogue = load_catalogue()
    assert len(links(catalogue.side("train"))) >= 20
    assert links(catalogue.side("held_out"))


def test_an_invalid_value_is_asked_for_again() -> None:
    continued = 0
    for c in made("invalid_value"):
        asked, question = [m.content or "" for m in c.messages if m.role != "system"][:2]
        assert spoken(c)[:2] == ["user", "assistant"]
        words = [w for w in re.findall(r"[\w@:.-]*\w", question) if len(w) > 1 or w.isdigit()]
        assert any(re.search(rf"(?<!\w){re.escape(w)}(?!\w)", asked) for w in words), "it names what was wrong"
        continued += spoken(c)[2:] == ["user", "call"]
    assert 0.45 < continued / len(made("invalid_value")) < 0.75


def test_an_invalid_value_is_one_that_the_schema_forbids() -> None:
    """And nothing else: what a description says may not be shown, and other numbers may be meant."""
    rng = random.Random(1)
    kinds = set()
    for spec in load_catalogue().specs:
        for path in _breakable(spec):
            leaf = spec.leaves[path]
            kinds |= {"enum", "format", "pattern", "minimum", "maximum"} & set(leaf)
            for _ in range(8):
                bad, problem = _broken(spec, path, rng, make_values(spec, rng))
                value = float(bad) if leaf["type"] in ("integer", "number") else bad
                value = int(value) if isinstance(value, float) and value == int(value) else value
                assert not jsonschema_rs.validator_for(leaf, validate_formats=True).is_valid(value), (spec.name, bad)
                assert bad in problem
    assert kinds == {"enum", "format", "pattern", "minimum", "maximum"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_slot_stays_unfilled_and_articles_fit(scenario: str) -> None:
    for c in made(scenario):
        for text in (m.content or "" for m in c.messages if m.role != "system"):
            assert not re.search(r"\{[A-Za-z_.@]+\}", text), text
            assert not re.search(
                r"(?<![\w'])[Aa] (extension|arithmetic|AAAA|annual|orange|umbrella|8|11|18)\b", text
            ), text


def test_an_end_stays_behind_its_start() -> None:
    pairs = {
        (spec.name, path, maker.split(" ")[1])
        for spec in load_catalogue().specs
        for path, maker in spec.makers.items()
        if maker.startswith(("later_date", "later_time", "more")) and "." not in path
    }
    seen = 0
    for scenario in ("follow_up", "change_of_mind", "parallel_same"):
        for c in synthesise(900, 8, side="held_out", scenarios=[scenario]):
            for call in (k for m in c.messages for k in m.tool_calls):
                for name, end, start in pairs:
                    if call.name == name and {end, start} <= set(call.arguments):
                        seen += 1
                        assert call.arguments[start] < call.arguments[end], c.messages
    assert seen > 20


def test_what_is_mentioned_can_be_asked_for() -> None:
    """A wish stands for a parameter that is shown, also where no call follows."""
    catalogue = load_catalogue()
    stage = stage_of(4)
    for play in (missing_argument, invalid_value):
        for _ in range(300):
            users = [t for t in play(stage).turns if isinstance(t, User)]
            assert users[0].asks or any(s.task.lower() in users[0].text.lower() for s in catalogue.specs)
    shown = 0
    for c in synthesise(900, 9, side="train", scenarios=["missing_argument"]):
        for tool in c.tools:
            shown += tool.name == "book_table" and "outdoor" in tool.parameters["properties"]
        if any("outside" in (m.content or "") or "utdoor" in (m.content or "") for m in c.messages if m.role == "user"):
            assert any("outdoor" in str(t.parameters["properties"]).lower() for t in c.tools), c.messages
    assert shown


def test_choices_are_among_two_to_twenty_tools() -> None:
    for side in ("train", "held_out"):
        counts = [len(c.tools) for c in synthesise(3000, 3, side=side, scenarios=["choice"])]
        assert min(counts) == 2
        assert max(counts) in (19, 20)
        assert 3.5 < sum(counts) / len(counts) < 4.8


def test_a_refused_call_is_corrected_by_what_the_error_says() -> None:
    for c in made("corrected_call"):
        assert spoken(c)[:4] == ["user", "call", "tool", "call"]
        first, second = [m.tool_calls[0] for m in c.messages if m.tool_calls]
        error = next(m.content or "" for m in c.messages if m.role == "tool")
        changed = [k for k in first.arguments if first.arguments[k] != second.arguments[k]]
        assert first.name == second.name
        assert len(changed) == 1
        leaves = [v for v in _flat(second.arguments[changed[0]]) if str(v) in error]
        assert leaves, "the right value comes from the error"


def test_what_is_only_now_made_is_known_to_no_tool() -> None:
    assert sum(bool(_correctable(spec)) for spec in load_catalogue().specs) > 100
    for spec in load_catalogue().specs:
        if spec.task.startswith("create "):
            assert all(spec.makers[path].startswith("code ") for path in _correctable(spec)), spec.name
        assert not any("iban" in path.lower() for path in _correctable(spec)), spec.name


def test_a_result_does_not_contradict_the_filter_of_the_search_before() -> None:
    details = next(s for s in load_catalogue().specs if s.name == "movie_details")
    assert "minutes" not in details.result, "a film of 75 minutes at most was searched for"


def _flat(value: object) -> list[object]:
    return [leaf for v in value.values() for leaf in _flat(v)] if isinstance(value, dict) else [value]


def test_a_failure_is_reported_and_no_result_invented() -> None:
    again = 0
    for c in made("tool_failure"):
        roles = spoken(c)
        assert roles[:4] == ["user", "call", "tool", "assistant"]
        calls = [m.tool_calls for m in c.messages if m.tool_calls]
        if len(roles) > 4:
            again += 1
            assert roles[4:] == ["user", "call", "tool", "assistant"]
            assert [(k.name, k.arguments) for k in calls[0]] == [(k.name, k.arguments) for k in calls[1]]
        report = next(m.content or "" for m in c.messages if m.role == "assistant" and not m.tool_calls)
        assert re.search(r"couldn't|didn't work|but ", report), report
    assert 0.2 < again / len(made("tool_failure")) < 0.5


def test_only_what_is_wanted_in_the_end_is_called() -> None:
    kinds = set()
    for c in made("change_of_mind"):
        kinds.add(tuple(spoken(c)))
        assert len(c.called()) == 1
        wish = [m.content or "" for m in c.messages if m.role == "user"]
        if len(wish) > 1:
            assert re.match(r"(Forget|Never|Leave|No, some|Let's|Not now)", wish[1])
    assert kinds == {("user", "call"), ("user", "assistant", "user", "call")}


@pytest.mark.parametrize(
    ("tool", "path", "other"),
    [
        ("speedConverter", "SourceUnit", "TargetUnit"), ("convert_temperature", "to_scale", "from_scale"),
        ("exchange_money", "to_currency", "from_currency"), ("search_flights", "from_city", "to_city"),
        ("moveStock", "route.to", "route.from"),
    ],
)  # fmt: skip
def test_nothing_is_changed_into_itself(tool: str, path: str, other: str) -> None:
    spec = next(s for s in load_catalogue().specs if s.name == tool)
    for seed in range(150):
        rng = random.Random(seed)
        old = make_values(spec, rng)
        new = changed(spec, old, {path}, rng)
        assert new[path] not in (old[path], old[other])
        assert new == {**old, path: new[path]}


def test_what_no_result_holds_is_not_answered() -> None:
    """Who wants only the likes is not told of views: the call is made, and no result is played."""
    asked = Counter[bool]()
    for seed, name in itertools.product(range(400), ("single", "answer_from_result", "follow_up", "injection")):
        stage = replace(stage_of(seed), specs=tuple(s for s in load_catalogue().specs if s.no_result_with))
        try:
            turns = SCENARIOS[name](stage).turns
        except NoFitError:
            continue
        for turn, after in itertools.pairwise((*turns, None)):
            if isinstance(turn, Calls):
                said = isinstance(after, Results)
                selected = any(a.flat.get(option) for a in turn.asks for option in a.spec.no_result_with)
                asked[selected] += 1
                assert not (said and selected), turns
    assert asked[True] > 50 and asked[False] > 500
    post = next(s for s in load_catalogue().specs if s.name == "post.analytics")
    flat = {"post_id": "da50f6c", "metric": "views"}
    with pytest.raises(NoFitError):
        result_of(Ask(post, "", flat), random.Random(1))
    assert result_of(Ask(post, "", {**flat, "metric": None}), random.Random(1))


def test_numbers_of_a_kind_may_be_alike() -> None:
    spec = next(s for s in load_catalogue().specs if s.name == "ReviewFilm")
    old = make_values(spec, random.Random(1))
    made = [changed(spec, old, {"Scores.Story"}, random.Random(seed)) for seed in range(99)]
    assert any(new["Scores.Story"] == new["Scores.Acting"] for new in made)


def test_requests_come_in_other_languages() -> None:
    # One word for each: German, French, Spanish, Italian, Portuguese.
    words: dict[Side, str] = {
        "train": "Welche Quel ¿ Quanto em",
        "validation": "Wie Quel ¿ Dove vou",
        "held_out": "Welche Quel ¿ Dove Onde",
    }
    for side, expected in words.items():
        made = list(synthesise(300, 5, side=side, scenarios=["languages"]))
        text = "\n".join(m.content or "" for c in made for m in c.messages if m.role == "user")
        for word in expected.split():
            assert word in text, (side, word)
        kinds = Counter((*spoken(c), len(c.called())) for c in made)
        assert set(kinds) == {("user", "call", 1), ("user", "call", 2), ("user", "assistant", 0)}
        assert min(kinds.values()) > 20


def test_instructions_in_a_result_are_not_obeyed() -> None:
    for c in made("injection"):
        assert spoken(c) == ["user", "call", "tool", "assistant"]
        assert len(c.called()) == 1
        assert re.search(r"instruct|make me", c.messages[-1].content or "")


def test_nobody_denies_what_was_done() -> None:
    """The hidden errand is not the one that the user has, also where a single tool is on offer."""
    stage = stage_of(3)
    for _ in range(200):
        scene = injection(stage)
        called = next(t.asks[0].spec for t in scene.turns if isinstance(t, Calls))
        answer = next(t.text for t in scene.turns if isinstance(t, Say))
        assert called.task not in answer.split("instruct")[-1].split("make me")[-1], answer
    spec = next(s for s in stage.specs if s.answers)
    with pytest.raises(NoFitError):
        injection(replace(stage, specs=(spec,), cast=(spec,)))
    offered = []
    for seed in range(40):  # most draws want a neighbour, which the cast lacks
        with contextlib.suppress(NoFitError):
            offered.append(injection(replace(stage, rng=random.Random(seed), cast=(spec,))).offered)
    assert offered and all(o == (spec,) for o in offered)


def test_an_impossible_date_agrees_with_the_others() -> None:
    rng = random.Random(2)
    compared = 0
    for spec in load_catalogue().specs:
        for path in (p for p in _breakable(spec) if spec.leaves[p].get("format") == "date"):
            for _ in range(20):
                flat = make_values(spec, rng)
                bad, _ = _broken(spec, path, rng, flat)
                assert abs(int(bad[:4]) - int(flat[path][:4])) <= 1
                for other in (v for p, v in flat.items() if p != path and spec.leaves[p].get("format") == "date"):
                    compared += 1
                    assert (bad < other) is (flat[path] < other), (spec.name, flat, bad)
    assert compared > 100


def test_what_follows_in_a_sequence_is_later() -> None:
    stage = stage_of(6)
    compared = 0
    for _ in range(300):
        first, second = [t.asks[0] for t in sequence(stage).turns if isinstance(t, Calls)]
        one, two = ([v for p, v in a.flat.items() if a.spec.leaves[p].get("format") == "date"] for a in (first, second))
        if one and two:
            compared += 1
            assert max(one) < min(two), (first, second)
    assert compared > 15
    assert not [
        k for k in links(load_catalogue().specs) if k.first.name == "campaigns.create" and "Stats" in k.second.name
    ]


def test_nobody_is_in_two_places() -> None:
    assert not _takes_several("I'm standing at {station}, which trains go next?", "station")
    assert not _takes_several("I'm at the stop {stop}. What comes next?", "stop")
    assert _takes_several("Next trains at {station}, please.", "station")


def test_long_lists_are_long() -> None:
    lengths = {len(c.tools) for c in made("long_list")}
    assert min(lengths) >= 12
    assert max(lengths) >= 30
    assert all(len(c.called()) == 1 for c in made("long_list"))


def test_without_tools_nothing_is_called() -> None:
    known = {s.task for s in load_catalogue().specs if s.domain in ("language", "maths", "geometry", "geography_facts")}
    for c in made("no_tools"):
        assert not c.tools
        assert not [task for task in known if f" {task}" in (c.messages[-1].content or "")], (
            "a refusal of what is known"
        )
        assert spoken(c) == ["user", "assistant"]


def test_a_system_without_tools_does_not_speak_of_them() -> None:
    systems = [m.content or "" for c in made("no_tools") for m in c.messages if m.role == "system"]
    assert systems
    assert not re.search("tool|function", " ".join(systems))


def test_missing_values_are_asked_for_in_a_question() -> None:
    questions = set()
    nothing_given = 0
    for c in made("missing_argument"):
        asked, question = [m.content or "" for m in c.messages if m.role != "system"][:2]
        questions.add(question)
        nothing_given += any(s.task in asked.lower() for s in load_catalogue().specs) and len(asked) < 70
        assert "?" in question or question.endswith(".")
    assert len(questions) > 120
    assert nothing_given > 50


def test_parallel_calls_are_asked_for_in_many_ways() -> None:
    asked = [next(m.content or "" for m in c.messages if m.role == "user") for c in train("parallel_same")]
    for sign in (
        r"\n- |1[.)]",
        r"respectively",
        r"^First|First, ",
        r" and (in|for|of|on|at|to|from|with|by) ",
        r"[Ss]ame|[Ll]ikewise",
    ):
        assert sum(bool(re.search(sign, text)) for text in asked) >= 1, sign
    assert {len(c.messages[-1].tool_calls) for c in train("parallel_same")} == {2, 3, 4}


def test_ways_of_saying() -> None:
    rng = random.Random(3)
    assert all(misspelt("weather", rng) != "weather" and misspelt("weather", rng)[0] == "w" for _ in range(50))
    template = "Please book {party_size} seats at {place.name}."
    for _ in range(50):
        slipped = with_slip(template, rng)
        assert re.findall(r"\{.*?\}", slipped) == ["{party_size}", "{place.name}"]
    assert number_word(3, "for ", " people") == "three"
    assert [number_word(v, a, b) for v, a, b in ((3, "for ", "%"), (3, "#", ""), (13, "", ""), (True, "", ""))] == [
        None
    ] * 4
    said = {from_today("A table on {date}.", "date", "2025-03-01", random.Random(i)) for i in range(60)}
    assert "Today is 2025-02-28. A table tomorrow." in said
    assert "It is February 27, 2025 today. A table the day after tomorrow." in said

"""The ways to turn a conversation into another scenario: each a function from a conversation to a new one.

A change returns None where it does not fit, and never more than it can vouch for: whether the result
is as good as cleaned data, the audits decide. All that it adds is said in plain sentences.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data.grounding import audit
from callama.synth.augment.akin import alike, may_do
from callama.synth.augment.shorten import without_value
from callama.synth.own_task import GETTING_VERBS, is_verb, task_of, verb_phrase
from callama.synth.own_words import question_for
from callama.synth.speech import join, label

Change = Callable[[Conversation, random.Random, Sequence[Tool]], Conversation | None]

_REFUSALS = (
    "I'm sorry, none of my tools can do that. I can {can}.", "I have no tool for that. What I can do is {can}.",
    "I can't do that with the tools I have, but I can {can}.",
    "That is beyond my tools, I'm afraid. I can {can} if you like.",
)  # fmt: skip
_QUESTIONS = ("What should the {} be?", "Could you tell me the {}?", "I still need the {}.",
              "Which {} should I use?")  # fmt: skip
_REPLIES = ("{}", "{}.", "{}, please.", "It's {}.")
_BARE = ("I'm sorry, none of my tools can do that.", "I have no tool for that.",
         "I can't do that with the tools I have.")  # fmt: skip
_ERRORS = ("Service temporarily unavailable", "Request timed out", "Internal server error", "Rate limit exceeded",
           "Connection refused", "Permission denied")  # fmt: skip
_REPORTS = (
    "I'm sorry, that did not work: the tool answered \"{}\". You may want to try again later.",
    "The call failed ({}), so I have no result for you. Shall I try again?",
    "I could not do that. The tool reported: {}. Nothing else is known.",
)  # fmt: skip
_BRIDGES = (" Also, ", " And ", " One more thing: ", " Besides, ")
_GREETING = re.compile(
    r"^(?:(?:hi|hey|hello)(?: there)?|good (?:morning|day|afternoon|evening)|ok|okay|quick one)\b[\s,.!:]*",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?<=[.?!])\s*(?:thanks(?: a lot)?|thank you|cheers|that would help me a lot)[.!]*$", re.IGNORECASE
)
# Last words of parameters whose values a tool looks up; of those whose values the user makes up, beside.
_NAMED = frozenset(("activity", "airline", "airport", "artist", "author", "band", "brand", "category", "city",
                    "company", "country", "cuisine", "currency", "destination", "film", "genre", "language", "location",
                    "movie", "name", "origin", "place", "shape", "song", "species", "sport", "state", "station", "team",
                    "title", "town"))  # fmt: skip
_FREE_TEXT = frozenset(("body", "comment", "content", "description", "keyword", "keywords", "message", "note", "notes",
                        "query", "sample", "subject", "text"))  # fmt: skip
# Words at the start of a request that are no names.
_STARTERS = frozenset(("a", "an", "are", "can", "could", "do", "does", "find", "get", "give", "how", "is", "let", "may",
                       "my", "please", "tell", "the", "there", "we", "what", "when", "where", "which", "who", "will",
                       "would", "you"))  # fmt: skip


def distractors(conversation: Conversation, rng: random.Random, pool: Sequence[Tool]) -> Conversation | None:
    """The same conversation with one to four more tools on offer, none of which could do what is asked."""
    if not conversation.called():
        return None  # what was declined or asked for, another tool could do
    # So it could in a later turn: what a user said there, none of the new ones may do.
    unmet = _said_without_a_call(conversation)
    added = _strangers(conversation.tools, [t for t in pool if not may_do(t, (), unmet)], rng, rng.randint(1, 4))
    if not added:
        return None
    tools = [*conversation.tools, *added]
    rng.shuffle(tools)
    return replace(conversation, tools=tuple(tools))


def decline(conversation: Conversation, rng: random.Random, pool: Sequence[Tool]) -> Conversation | None:
    """The tools that the first request needs are taken away: the assistant says so, and what it can do."""
    start = _first_call(conversation)
    if start is None or any(m.role == "assistant" for m in conversation.messages[:start]):
        return None
    needed = {call.name for message in _until_user(conversation, start) for call in message.tool_calls}
    gone = [t for t in conversation.tools if t.name in needed]
    left = [t for t in conversation.tools if t.name not in needed]
    left += _strangers(conversation.tools, pool, rng, rng.randint(1, 2)) if len(left) < 2 else []
    text = " ".join(m.content or "" for m in conversation.messages[:start])
    if not left or any(may_do(other, gone, text) for other in left):
        return None
    # What neither a description nor a name puts into words is on offer all the same, and not spoken of.
    able = [phrase for t in left if (phrase := verb_phrase(t))][:2]
    said = Message("assistant", rng.choice(_REFUSALS).format(can=join(able, "or")) if able else rng.choice(_BARE))
    return replace(conversation, messages=(*conversation.messages[:start], said), tools=tuple(left))


def missing_argument(conversation: Conversation, rng: random.Random, pool: Sequence[Tool]) -> Conversation | None:
    """A required value is left out of the request: the assistant asks, the user answers, the rest goes on."""
    found = _said_once(conversation, rng)
    if found is None:
        return None
    start, name, value = found
    short = without_value(conversation.messages[start - 1].content or "", label(name), value)
    if start - 1 != sum(m.role == "system" for m in conversation.messages[:start]) or short is None:
        return None
    without = (*conversation.messages[: start - 1], Message("user", short))
    call = conversation.messages[start]
    bare = [a for a in audit(replace(conversation, messages=(*without, call))) if a.path == name]
    if any(a.ground != "ungrounded" for a in bare):
        return None
    question = Message("assistant", question_for(name, rng.choice(_QUESTIONS)))
    reply = Message("user", rng.choice(_REPLIES if len(value.split()) < 4 else _REPLIES[:1]).format(value))
    return replace(conversation, messages=(*without, question, reply, *conversation.messages[start:]))


def corrected_call(conversation: Conversation, rng: random.Random, pool: Sequence[Tool]) -> Conversation | None:
    """The user misspells a value; the tool refuses it and names the right one; the assistant calls again."""
    found = _said_once(conversation, rng)
    if found is None:
        return None
    start, name, value = found
    if not re.fullmatch(r"[A-Za-z][A-Za-z ]{3,30}", value) or not _looked_up(conversation, start, name, value):
        return None
    at = rng.randrange(1, len(value) - 2)
    wrong = value[:at] + value[at + 1] + value[at] + value[at + 2 :]
    if wrong == value or " " in value[at : at + 2]:
        return None
    user, call = conversation.messages[start - 1], conversation.messages[start].tool_calls[0]
    asked = Message("user", (user.content or "").replace(value, wrong, 1))
    first = ToolCall(call.name, {**call.arguments, name: wrong}, "call_wrong")
    fault = {"error": f"unknown {_kind(name)} {wrong!r}; did you mean {value!r}?"}
    return replace(
        conversation,
        messages=(
            *conversation.messages[: start - 1], asked, Message("assistant", None, (first,)),
            Message("tool", dumps(fault), (), first.id), *conversation.messages[start:],
        ),
    )  # fmt: skip


def tool_failure(conversation: Conversation, rng: random.Random, pool: Sequence[Tool]) -> Conversation | None:
    """The first result is an error: the assistant reports it and claims nothing."""
    start = _first_call(conversation)
    if start is None or len(conversation.messages[start].tool_calls) != 1:
        return None
    error = rng.choice(_ERRORS)
    result = Message("tool", dumps({"error": error}), (), conversation.messages[start].tool_calls[0].id)
    report = Message("assistant", rng.choice(_REPORTS).format(error))
    return replace(conversation, messages=(*conversation.messages[: start + 1], result, report))


def joined(first: Conversation, second: Conversation, rng: random.Random) -> Conversation | None:
    """Two requests with a call each become one request with two calls at once."""
    heads = [_single_call(c) for c in (first, second)]
    if heads[0] is None or heads[1] is None or (heads[1][0] and heads[1][0] != heads[0][0]):
        return None
    (system, asked, one), (_, also, other) = heads[0], heads[1]
    if (one.name, one.arguments) == (other.name, other.arguments):
        return None
    tools = {t.name: t for t in second.tools} | {t.name: t for t in first.tools}
    if any(tools[t.name] != t for t in second.tools):
        return None
    if any(alike(tools[call.name], t) for call in (one, other) for t in tools.values() if t.name != call.name):
        return None  # either could be called
    shown = list(tools.values())
    rng.shuffle(shown)
    asked, also = _CLOSING.sub("", asked), _GREETING.sub("", _GREETING.sub("", also))
    if not asked or not also:
        return None
    first_word = re.match(r"[A-Za-z']*", also)
    words = also[:1].lower() + also[1:] if first_word and _is_plain(first_word[0]) else also
    text = asked + ("" if asked[-1] in ".?!" else ".") + rng.choice(_BRIDGES) + words
    calls = (replace(one, id="call_0"), replace(other, id="call_1"))
    messages = (*system, Message("user", text), Message("assistant", None, calls))
    return replace(first, messages=messages, tools=tuple(shown))


CHANGES: Mapping[str, Change] = {
    f.__name__: f for f in (distractors, decline, missing_argument, corrected_call, tool_failure)
}


def _is_plain(word: str) -> bool:
    """Whether a word at the start of a sentence is no name or value, so that it may lose its capital."""
    return word.lower() in _STARTERS or is_verb(word.lower())


def _first_call(conversation: Conversation) -> int | None:
    """Where the first call stands, if it answers a user directly."""
    for index, message in enumerate(conversation.messages):
        if message.tool_calls:
            return index if index and conversation.messages[index - 1].role == "user" else None
    return None


def _until_user(conversation: Conversation, start: int) -> list[Message]:
    """The messages from one on, up to the user's next."""
    return list(itertools.takewhile(lambda message: message.role != "user", conversation.messages[start:]))


def _said_without_a_call(conversation: Conversation) -> str:
    """What users say in the turns that are answered without a call."""
    users = [i for i, message in enumerate(conversation.messages) if message.role == "user"]
    return " ".join(
        conversation.messages[i].content or ""
        for i in users
        if not any(message.tool_calls for message in _until_user(conversation, i + 1))
    )


def _single_call(conversation: Conversation) -> tuple[tuple[Message, ...], str, ToolCall] | None:
    start = _first_call(conversation)
    if start is None or len(conversation.messages[start].tool_calls) != 1 or conversation.messages[start].content:
        return None
    if any(message.tool_calls for message in _until_user(conversation, start + 1)):
        return None  # what the next call takes from this one's result would be lost
    *before, user = conversation.messages[:start]
    if any(m.role != "system" for m in before) or not (user.content or "").strip():
        return None
    return tuple(before), (user.content or "").strip(), conversation.messages[start].tool_calls[0]


def _said_once(conversation: Conversation, rng: random.Random) -> tuple[int, str, str] | None:
    """A required argument of a first, single call whose value stands once in the request, word for word."""
    start = _first_call(conversation)
    if start is None or len(conversation.messages[start].tool_calls) != 1:
        return None
    call, text = conversation.messages[start].tool_calls[0], conversation.messages[start - 1].content or ""
    schema: dict[str, Any] = next((t.parameters for t in conversation.tools if t.name == call.name), {})
    fitting = []
    for name in schema.get("required", ()):
        value, inner = call.arguments.get(name), schema["properties"].get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not isinstance(inner, dict):
            continue
        said = str(value)
        if said.strip() and "enum" not in inner and len(re.findall(rf"(?<!\w){re.escape(said)}(?!\w)", text)) == 1:
            fitting.append((start, name, said))
    return rng.choice(fitting) if fitting else None


def _strangers(beside: Sequence[Tool], pool: Sequence[Tool], rng: random.Random, count: int) -> list[Tool]:
    out: list[Tool] = []
    for tool in rng.sample(pool, min(len(pool), 12)):
        if len(out) < count and not any(alike(tool, other) for other in (*beside, *out)):
            out.append(tool)
    return out


def _looked_up(conversation: Conversation, start: int, name: str, value: str) -> bool:
    """Whether the tool that is called may know ``value`` and not a misspelt one: its signature tells of it, or it looks
    things up, and this is the name of one or was told by an assistant before."""
    called = conversation.messages[start].tool_calls[0].name
    tool = next(t for t in conversation.tools if t.name == called)
    said = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
    kind = _kind(name).split(" ")[-1]
    if kind in _FREE_TEXT:
        return False
    if said.search(f"{tool.description} {dumps(tool.parameters)}"):
        return True
    if task_of(tool).split(" ")[0] not in GETTING_VERBS:
        return False
    told = any(said.search(m.content or "") for m in conversation.messages[:start] if m.role != "user")
    return told or (kind in _NAMED and (" " not in value or value.istitle()))


def _kind(name: str) -> str:
    """A parameter's name in words, ``location1`` and ``location_2`` as "location"."""
    return label(name.rstrip("0123456789_") or name)

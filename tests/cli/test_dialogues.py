"""The dialogues of ``chat_completion.py``: what they cover, and how an answer is shown."""

from __future__ import annotations

from callama.cli.dialogues import DIALOGUES, Dialogue, transcript
from callama.contract.schema import normalise_schema
from callama.contract.turns import parse_turns, render_turns


def shape(dialogue: Dialogue) -> tuple[int, list[str]]:
    return len(dialogue.conversation.tools), [message.role for message in dialogue.conversation.messages]


def test_every_kind_of_the_original_is_there() -> None:
    user, assistant, tool = "user", "assistant", "tool"
    assert [shape(dialogue) for dialogue in DIALOGUES] == [
        (1, [user]),  # a rating is missing
        (1, [user, assistant, user]),  # it was given
        (1, [user, assistant, user, assistant, tool]),  # answer from the result
        (1, [user]),  # tip
        (1, [user]),  # books
        (2, [user]),  # an address is missing
        (2, [user, assistant, user]),  # it was given
        (2, [user]),  # currency
        (0, [user, assistant, user]),  # chat about a trip
        (0, ["system", user]),  # chat under a system message
    ]


def test_dialogues_wait_for_the_assistant_and_render() -> None:
    for _, conversation in DIALOGUES:
        assert conversation.messages[-1].role in ("user", "tool")
        assert parse_turns(render_turns(conversation), conversation.tools).messages == conversation.messages
        for tool in conversation.tools:
            assert tool.description and normalise_schema(tool.parameters) == tool.parameters


def test_the_made_call_fits_its_tool() -> None:
    (rating,) = (d.conversation for d in DIALOGUES if d.conversation.called())
    call = next(m.tool_calls[0] for m in rating.messages if m.tool_calls)
    assert call.name == rating.tools[0].name
    assert set(call.arguments) == set(rating.tools[0].parameters["required"])


def test_calls_are_shown_as_calls() -> None:
    shown = transcript(
        DIALOGUES[2],
        'One moment.\n{"tool_uses": [{"recipient_name": "functions.rate_film", "parameters": {"stars": 8}}, '
        '{"recipient_name": "functions.f", "parameters": {}}]}',
    ).splitlines()
    assert shown[0] == "== The call has a result: answer from it"
    assert shown[1] == "(functions: rate_film)"
    assert any(line.startswith('Assistant calls rate_film({"title": "Arrival", "stars": 8') for line in shown)
    assert any(line.startswith('Tool: {"stored": true') for line in shown)
    assert shown[-2:] == ["> Assistant: One moment.", '> Assistant calls rate_film({"stars": 8}); f({})']


def test_text_and_broken_calls_are_shown_as_what_they_are() -> None:
    assert transcript(DIALOGUES[9], " By train,\nor by plane. ").endswith("> Assistant: By train,\nor by plane.")
    assert transcript(DIALOGUES[9], "").endswith("> Assistant: ")
    assert transcript(DIALOGUES[9], "By tr", whole=False).endswith(
        "By tr\n> (cut: the answer is longer than it may be)"
    )
    broken = transcript(DIALOGUES[0], '{"tool_uses": [{"recipient')
    assert "> Assistant, a broken call (" in broken and broken.endswith('): {"tool_uses": [{"recipient')

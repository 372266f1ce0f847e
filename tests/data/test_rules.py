"""Rules about endings: what is cut, what is not, and that a seed decides the same everywhere."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data.reasons import Repair
from callama.data.rules import balance_ending, cut_tail

CALL = ToolCall("f", {}, "call_0")


def conversation(*turns: str | tuple[str, str]) -> Conversation:
    """Turns as ``"user text"`` and ``"assistant text"`` by turns; ``"CALL"`` and its result as they come."""
    messages = []
    for index, turn in enumerate(turns):
        if turn == "CALL":
            messages.append(Message("assistant", None, (CALL,)))
        elif turn == "RESULT":
            messages.append(Message("tool", "1", (), "call_0"))
        else:
            role = "user" if not index or messages[-1].role == "assistant" else "assistant"
            messages.append(Message(role, str(turn)))
    return Conversation(tuple(messages), (Tool("f"),))


@pytest.mark.parametrize(
    ("answer", "repair"),
    [
        ("You're welcome! If you need anything else, feel free to ask.", Repair.THANKS_CUT),
        ("You’re very welcome! Don't hesitate to ask.", Repair.THANKS_CUT),
        ("Great choice! Feel free to ask for more.", Repair.THANKS_CUT),
        ("I'm sorry, but I can't order pizza.", Repair.APOLOGY_CUT),
        ("You're welcome! Your booking number is 7.", None),
        ("The capital is Oslo. Feel free to ask.", None),
        ("I'm sorry to hear that. Rest a while.", None),
        ("You're welcome! I hope you enjoy the book. If you need more, feel free to ask.", Repair.THANKS_CUT),
        ("You're welcome, Anna! Feel free to ask.", Repair.THANKS_CUT),
        ("You're welcome, feel free to ask.", Repair.THANKS_CUT),
        ("You're welcome! The hotel's number is +33 1 40 20 50 50. Feel free to ask.", None),
        ("You're welcome! The Odeon has a bar. Feel free to ask.", None),
        ("You're welcome, the bar is open. Feel free to ask.", None),
        ("You're welcome to bring your dog. Feel free to ask.", None),
        ("You're welcome! Let me know if you would rather see the Odeon.", None),
        ("Great choice! It is the oldest theatre in town. Feel free to ask for more.", None),
        (
            "I'm sorry, but I don't have the capability to book flights. My current function is to find recipes. "
            "I recommend using a trusted travel website or app.",
            Repair.APOLOGY_CUT,
        ),
        ("I'm sorry, but I'm unable to order food. However, I can help you find a recipe.", Repair.APOLOGY_CUT),
        ("I'm sorry, but I can't do that. Is there anything else you need?", Repair.APOLOGY_CUT),
        ("I'm sorry, I misunderstood.", Repair.APOLOGY_CUT),
        ("I'm sorry, but that's beyond my capabilities.", Repair.APOLOGY_CUT),
        ("I'm very sorry, for the confusion!", Repair.APOLOGY_CUT),
        ("I'm sorry, the 9:00 is sold out. Still free are the 10:30 for 49 EUR and the 12:15.", None),
        ("I'm sorry, the Rialto is sold out. The Odeon still has seats.", None),
        ("I'm sorry, the museum is closed.", None),
        ("I'm sorry, the Rialto is sold out and I can't book it.", None),
        ("I'm sorry, but I can't book it because the Rialto is closed.", None),
        ("I'm sorry, but I can't book it, the Rialto is closed.", None),
        ("I'm sorry, I don't think that it opens on Sunday.", None),
        ("I'm sorry, but I don't have any rooms left.", None),
        ("I'm sorry, but I can't find any train before noon.", None),
        ("I'm sorry, but the hotel cannot take dogs.", None),
        ("I'm sorry, but I can't book Monday, but Tuesday is free.", None),
        ("I'm sorry, but I can't book flights. I recommend using the Lufthansa app.", None),
        ("I'm sorry, but I can't book flights. Would you like a train at noon?", None),
        ("I'm sorry, but I can't find a flight. The fare starts at fifty euros.", None),
        ("I'm sorry, but I can't book it: the inn is closed.", None),
        # What else is said in the words of an offer, a wish or a regret is content.
        ("You're welcome! Don't take anything else with this medicine. Let me know if you need more.", None),
        ("You're welcome! Never mix bleach with anything else. Feel free to ask.", None),
        ("You're welcome! I'm happy to confirm that the refund was approved. Let me know if you need more.", None),
        ("You're welcome! Enjoy the recipe and remember that the dough has to rest. Feel free to ask for more.", None),
        ("You're welcome! I hope that the refund arrives. Feel free to ask for more.", None),
        ("You're welcome! Let me know if the pump starts to leak, because then the valve has to be shut.", None),
        ("You're welcome! If the light blinks red let me know if it stops after holding the button down.", None),
        ("You're welcome! Feel free to ask, but shut the valve before.", None),
        ("You're welcome! Feel free to ask your doctor about ibuprofen.", None),
        ("You're welcome! Take care to lock the back door. Feel free to ask.", None),
        ("You're welcome! Have a doctor look at it. Feel free to ask me anything.", None),
        ("I'm sorry, but I can't book the flight until you tell me the date of birth.", None),
        ("I'm sorry, but I cannot open the door without a passcode from you.", None),
        ("I'm sorry, but I can't send it unless you confirm.", None),
        ("I'm sorry, but I am unable to cancel the order as it was shipped yesterday.", None),
        ("I'm sorry, that's my mistake. You should use the blue service entrance on the left.", None),
        ("I'm sorry, that's my mistake. You should use a blue service entrance.", None),
        ("I'm sorry, for any inconvenience. You can use the stairs behind the platform.", None),
        ("I'm sorry, but I cannot divide by zero. Please provide another number in your tools.", None),
        (
            "You're welcome! If you have any other questions or need further assistance, feel free to ask.",
            Repair.THANKS_CUT,
        ),
        (
            "You're welcome! I'm glad I could help. Have a great day! Let me know if you need anything else.",
            Repair.THANKS_CUT,
        ),
        (
            "You're welcome! If there's anything else I can help you with, please don't hesitate to ask.",
            Repair.THANKS_CUT,
        ),
        ("You're welcome! If you need anything else, just let me know.", Repair.THANKS_CUT),
        (
            "I'm sorry, but I am unable to book flights as it is an external task and I don't have a function for it. "
            "However, I can assist you with checking the availability of an email address.",
            Repair.APOLOGY_CUT,
        ),
        (
            "I'm sorry, but I can't order food. I suggest you to use a grocery delivery service or app for this task.",
            Repair.APOLOGY_CUT,
        ),
        (
            "I'm sorry, but I can't do that. My current function is to create invoices. If you need help with that, "
            "feel free to ask!",
            Repair.APOLOGY_CUT,
        ),
        ("I'm sorry, but I can't do that. " + "Is there anything else I can do for you? " * 20, None),
    ],
)
def test_low_quality_tails_are_cut(answer: str, repair: Repair | None) -> None:
    whole = conversation("Hi", "CALL", "RESULT", "It is 1.", "And?", answer)
    kept, found = cut_tail(whole)
    assert found is repair
    assert len(kept.messages) == (4 if repair else 6)
    alone = conversation("Hi", answer)
    assert cut_tail(alone) == (alone, None)


def test_a_system_message_does_not_make_a_first_exchange_a_tail() -> None:
    messages = (Message("system", "Be kind."), *conversation("Hi", "I'm sorry, but no.").messages)
    assert cut_tail(Conversation(messages))[1] is None


WHOLE = conversation("Play", "Which song?", "Imagine", "CALL", "RESULT", "Done.")


def test_endings_are_dealt_out_evenly() -> None:
    ends = Counter(balance_ending(WHOLE, lot)[1] for lot in range(3000))
    assert ends == {None: 1000, Repair.ENDS_ON_CALL: 1000, Repair.ENDS_ON_QUESTION: 1000}
    ended = {repair: kept.messages[-1] for kept, repair in (balance_ending(WHOLE, lot) for lot in range(3))}
    assert ended[Repair.ENDS_ON_CALL].tool_calls and ended[Repair.ENDS_ON_QUESTION].content == "Which song?"


def test_a_statement_before_a_call_is_no_question_and_chat_is_never_cut() -> None:
    told = conversation("Play", "I have songs.", "Imagine", "CALL", "RESULT", "Done.")
    assert {balance_ending(told, lot)[1] for lot in range(100)} == {None, Repair.ENDS_ON_CALL}
    chat = conversation("Hi", "Hello?", "Bye", "Bye!")
    assert all(balance_ending(chat, lot) == (chat, None) for lot in range(100))


@pytest.mark.parametrize("piece", ["as an AI ", "as an AI, ", "but ", "I can't , the ", "I recommend ", "a. "])
def test_a_tail_is_judged_at_once(piece: str) -> None:
    started = time.perf_counter()
    cut_tail(conversation("Hi", "Hello", "And?", "I'm sorry, " + piece * (380 // len(piece))))
    assert time.perf_counter() - started < 1

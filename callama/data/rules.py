"""Rules about how a conversation ends; each has a count in the report and a switch.

Low-quality tails: a last exchange of thanks, or one whose answer only regrets that it cannot help,
teaches nothing that a first one did not. What else an answer says is content, and stays. Balance: a
conversation that asks back before a call, or calls, can end on the question, on the call or on its
answer; they are dealt out evenly, by a hash of seed and text, so that no order of rows and no number
of workers changes the outcome.
"""

from __future__ import annotations

import re

from callama.contract.messages import Conversation, Message
from callama.data.reasons import Repair

_MAX_TAIL_CHARS = 400
_CONTENT = re.compile(r"[\d$€£¥%:;]")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|\Z)|\n+")
_THANKS = re.compile(
    r"\A(?:(?:you're|you are) (?:very |most )?welcome|great choice)\b(?:, \w+(?=[.!]))?[\s,.!]*", re.IGNORECASE
)
_APOLOGY = re.compile(r"\AI'm (?:very |really )?sorry, *", re.IGNORECASE)
# An offer to go on and a wish are whole sentences; what gives a reason, an order or a fact is content.
_GIVES = r"(?:and|but|because|since|then|until|unless|before|after|so|remember|make sure)\b"
_FEW = rf"(?:,? (?!{_GIVES})[\w'’-]+)"
_NEED = rf"(?:you (?:ever |still |would |do )?|you'd )(?:need|want|have|like|require|wish)\b(?! rather){_FEW}{{0,12}}"
_IN_CASE = rf"(?:if|in case|should|when|whenever) (?:{_NEED}|there(?:'s| is) (?:anything|something){_FEW}{{0,12}})"
_OFFER = re.compile(
    rf"(?:(?:however|but|and|so),? )?(?:{_IN_CASE}, )?(?:please,? |just )*(?:"
    rf"(?:feel free to|don't (?:ever )?hesitate to|do not hesitate to) "
    rf"(?:ask(?! (?:your|the|an?)\b(?! (?:\w+ )?question))|reach out|let me know|contact me){_FEW}{{0,12}}"
    rf"|let me know(?: {_IN_CASE}| how I can{_FEW}{{0,8}})?|ask(?: me)?"
    rf"|I'm (?:always )?(?:here|happy|glad)(?: to (?:help|assist))?(?: you)?(?: {_IN_CASE})?"
    rf"|(?:is there )?anything else{_FEW}{{0,14}}"
    rf"|(?:in this case, )?I can (?:still |only )?(?:help|assist)\b{_FEW}{{0,30}})",
    re.IGNORECASE,
)
_GOOD = (
    r"(?:amazing|awesome|beautiful|enjoyable|excellent|fantastic|fun|good|great|happy|lovely|nice|pleasant|productive|"
    r"relaxing|safe|smooth|successful|wonderful)"
)
_WISH = re.compile(
    rf"I hope (?:this|that|it) helps{_FEW}{{0,4}}"
    rf"|(?:I hope|enjoy|have an? {_GOOD}|good luck|take care(?! (?:to|of|not)\b))(?!.*\bthat\b){_FEW}{{0,10}}"
    r"|(?:I'm )?(?:always )?(?:glad|happy) (?:to|(?:that )?I (?:could|can|was able to)) (?:help|assist|be of \w+)"
    r"(?: you)?(?: (?:with|in) (?:this|that))?",
    re.IGNORECASE,
)
# What the assistant itself cannot do, to the end of the sentence, or that it got something wrong.
_UNABLE = re.compile(
    r"\A(?:(?:but|however|unfortunately|currently|at the moment"
    r"|as an AI(?: language)?(?: model| assistant)?|that's|that is|it's|this is),? )*+"
    r"(?:(?:I|I'm|I am)(?: currently| only| also)? (?:"
    r"(?:can't|cannot|can not)(?! (?:find|see|recommend)\b)|unable|not able|not capable"
    r"|(?:don't|do not)(?: \w+)? (?:support|understand)\b"
    r"|(?:don't|do not)(?: \w+)? have (?:\w+ ){0,3}(?:capabilit|abilit|access|function|permission|tool|information))"
    r"|I misunderstood|(?:beyond |outside |outside of )?my (?:\w+ )?(?:capabilit|abilit|function|mistake)"
    r"|for (?:the|any) (?:confusion|misunderstanding|inconvenience))"
    r"(?!.*(?:\b(?:but|instead|however|until|unless|without)\b| [–—-] |, (?:the|it|they|there)\b"
    r"|\b(?:because|since) (?!I\b|my\b)"
    r"|\bas (?:it|the|they|there)\b(?!(?:'s| is) (?:an external|beyond|outside|not within))))",
    re.IGNORECASE,
)
# Where else to ask, by kind: "I recommend using a trusted travel website". "The" one is a certain one.
_ELSEWHERE = re.compile(
    r"\A(?:however, )?(?:I(?:'d| would)? (?:recommend|suggest|advise)|please|you (?:can|could|may|might|should))\b"
    r"(?:(?!\bthe\b).)*\b(?:us|try|visit|contact|consult|check|reach|search|look|ask|seek|speak)(?:e|ing)?\b"
    r"(?:(?!\bthe\b).)*\b(?:websites?|apps?|services?|agents?|agency|platforms?|providers?|professionals?|tools?)"
    r"(?=\Z| (?:to|for|or|of|that|who|which|like|such|directly)\b)",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[\w,] )(?!(?:I|AI)\b)[A-Z]|[\"“]")


def cut_tail(conversation: Conversation) -> tuple[Conversation, Repair | None]:
    """Cuts a last user turn and its answer if that is nothing but thanks or regret and something stands before."""
    messages = conversation.messages
    if len(messages) < 4 or [m.role for m in messages[-3:]] != ["assistant", "user", "assistant"]:
        return conversation, None
    last = messages[-1]
    if last.tool_calls or last.content is None or len(last.content) > _MAX_TAIL_CHARS:
        return conversation, None
    text = last.content.replace("’", "'").strip()
    if _is_thanks(text):
        repair = Repair.THANKS_CUT
    elif _is_apology(text):
        repair = Repair.APOLOGY_CUT
    else:
        return conversation, None
    return _with_messages(conversation, messages[:-2]), repair


def _is_thanks(text: str) -> bool:
    """Whether a text is thanks with an offer to go on, and wishes at most."""
    if not (start := _THANKS.match(text)) or _CONTENT.search(text):
        return False
    said = _sentences(text[start.end() :])
    return any(map(_is_offer, said)) and all(_is_offer(s) or _WISH.fullmatch(s) for s in said)


def _is_apology(text: str) -> bool:
    """Whether a text regrets that the assistant cannot help, and at most says who might."""
    if not (start := _APOLOGY.match(text)) or _CONTENT.search(text):
        return False
    unable, *rest = _sentences(text[start.end() :]) or [""]
    return bool(_UNABLE.match(unable)) and all(
        _is_offer(s) or (not _NAME.search(s) and (_UNABLE.match(s) or _ELSEWHERE.match(s))) for s in rest
    )


def _is_offer(sentence: str) -> bool:
    return bool(_OFFER.fullmatch(sentence)) and not _NAME.search(sentence)


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def balance_ending(conversation: Conversation, draw: int) -> tuple[Conversation, Repair | None]:
    """Cuts a conversation to one of its possible endings, chosen by ``draw``, any whole number.

    The three kinds of ending that it offers (a question before a call, a call, its last message as
    it stands) have equal chances, and so have the places of one kind.
    """
    messages = conversation.messages
    calls = [i for i, m in enumerate(messages) if m.tool_calls]
    if not calls:
        return conversation, None
    questions = [i - 2 for i in calls if _asks_back(messages, i)]
    kinds: list[tuple[Repair | None, list[int]]] = [(None, [len(messages) - 1]), (Repair.ENDS_ON_CALL, calls)]
    if questions:
        kinds.append((Repair.ENDS_ON_QUESTION, questions))
    draw, kind = divmod(draw, len(kinds))
    repair, places = kinds[kind]
    end = places[draw % len(places)] + 1
    if end == len(messages):
        return conversation, None
    return _with_messages(conversation, messages[:end]), repair


def _asks_back(messages: tuple[Message, ...], call: int) -> bool:
    """Whether user, assistant's question, user stand before a call."""
    if call < 3 or [m.role for m in messages[call - 3 : call]] != ["user", "assistant", "user"]:
        return False
    question = messages[call - 2]
    return not question.tool_calls and "?" in (question.content or "")


def _with_messages(conversation: Conversation, messages: tuple[Message, ...]) -> Conversation:
    return Conversation(messages, conversation.tools, conversation.labels)

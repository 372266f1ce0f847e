"""What a system text says of its own, where it also explains tools and the source's own way of calling."""

from __future__ import annotations

import re
from itertools import pairwise

# How the system texts of Hermes, Qwen and ToolACE speak of tools. What stands before is the conversation's own.
_EXPLAINS = re.compile(
    r"</?tools?\b|<tool_|^# tools\b|function signature|functions? in json"
    r"|set of possible functions|\[\s*func",
    re.IGNORECASE | re.MULTILINE,
)
# A conversation may say this of its own; it starts the explanation only where nothing plainer does.
_MENTIONS = re.compile(r"(set|list) of (possible |available )?(functions|tools)", re.IGNORECASE)
_SPEAKS_OF_CALLS = re.compile(r"function[ _-]?call|tool[ _-]?call|composing functions", re.IGNORECASE)
# What the sentences of an explanation have in common, and two of ToolACE's that have not.
_PART_OF_IT = re.compile(
    r"function|\btools?\b|tool_|param|argument|\bxml\b|json|pydantic"
    r"|^\W*also point it out\W*$|no other text must be included|^\W*should you\W*(?:decide\b|$)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[。！？]|[.!?][\"')\]]*(?=\s|[A-Z]|\Z)")
_EMPTY = re.compile(r"<(\w+)>\s*(?:[^\n<>]{1,80}:\s*)?</\1>\n?")
# Tools as they are shown, and calls as they are to be written. Their contents may hold whole sentences.
_SHOWN = re.compile(r"<tools>((?:(?!<tools>).)*?)</tools>", re.DOTALL)
_WRITTEN = re.compile(r"<tool_call>((?:(?!<tool_call>).)*?)</tool_call>", re.DOTALL)
LEFT_OUT = "[functions]"
"""Stands in a system text for a list of functions that was taken out; a sign of the explanation too."""


def own_text(system: str) -> str | None:
    """What a system text says before it starts to explain tools and a way of calling them, and behind that.

    The explanation starts with the sentence, or the line, that first shows them. From there on a sentence that
    speaks of functions, tools or JSON is a part of it, and everything is where tools that are shown do not end;
    before, only one that speaks of calling, or of a list of tools, is left out.
    """
    system = _WRITTEN.sub("<tool_call>", _SHOWN.sub(LEFT_OUT, system))
    sign = _EXPLAINS.search(system) or _MENTIONS.search(system)
    if not sign:
        return _without(system, _SPEAKS_OF_CALLS)
    ends = [end.end() for end in _SENTENCE_END.finditer(system, 0, sign.start())]
    start = ends[-1] if ends else 0
    explanation, opening, behind = system[start:].partition("<tools>")
    if opening and "{" not in behind:
        explanation = system[start:]  # the tag is only named
    parts = _without(system[:start], _SPEAKS_OF_CALLS, _MENTIONS), _without(explanation, _PART_OF_IT)
    return "\n".join(filter(None, parts)) or None


def _without(text: str, *signs: re.Pattern[str]) -> str | None:
    """The text without the sentences that have one of the signs, nor a last one that announces what was left out."""
    ends = [end.end() for end in _SENTENCE_END.finditer(text)]
    sentences = [text[start:end] for start, end in pairwise([0, *ends, len(text)])]
    kept = [said for said in sentences if said and not any(sign.search(said) for sign in signs)]
    while kept and len(kept) < len(sentences) and (not kept[-1].strip() or kept[-1].rstrip().endswith(":")):
        kept.pop()
    # Tags around nothing but an announcement, where what stood between them was left out.
    said = _EMPTY.sub(lambda tags: tags[0] if tags[0] in text else "", "".join(kept))
    return said.strip() or None

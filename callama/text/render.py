"""Conversations to token ids: the one renderer behind data sets, training, evaluation and chat.

Every id carries a kind; the loss mask follows from the kinds. Each turn's text is tokenized on its
own, between its frame's tokens, so that nothing said in a turn can reach the frame; the prompt that
generation starts from is, token for token, what training saw before the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from callama.contract.messages import Conversation
from callama.contract.spans import Kind, Segment
from callama.contract.turns import render_turns
from callama.text.markup import Markup, encode_parts, markup_of
from callama.text.tokenizer import Tokenizer

TrainOn = Literal["all", "last"]
_KINDS = tuple(Kind)
_REMEMBERED_OPENINGS = 2048
_SYNTAX = bytes((Kind.CALL_SYNTAX,))


@dataclass
class Rendered:
    """``ids`` and, for each, its ``kinds``; ``answers`` are the (start, end) of the assistant's turns,
    from the first token after the header to the stop token inclusive. The first ``opening`` ids are the
    system's turn, which conversations about the same tools have in common."""

    ids: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    opening: int = 0

    def add(self, ids: Sequence[int], kind: Kind = Kind.PROMPT) -> None:
        """Appends ids of one kind."""
        self.ids += ids
        self.kinds += [kind] * len(ids)

    def supervised(self, train_on: TrainOn = "all") -> list[bool]:
        """Which ids are trained: every answer with its stop token, or the last one's."""
        mask = [False] * len(self.ids)
        for start, end in self.answers if train_on == "all" else self.answers[-1:]:
            mask[start:end] = [True] * (end - start)
        return mask


@dataclass(frozen=True)
class Renderer:
    """Renders for one tokenizer, in its family's markup."""

    tokenizer: Tokenizer
    # What recurs in thousands of conversations: frames by part and role, system turns by their text.
    _frames: dict[tuple[str, str], list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _openings: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def markup(self) -> Markup:
        """The tokenizer's turn markup."""
        return markup_of(self.tokenizer)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids at which generation stops."""
        specials = self.tokenizer.special_tokens
        return frozenset(specials[name] for name in self.markup.stops if name in specials)

    def conversation(self, conversation: Conversation) -> Rendered:
        """All turns of a conversation.

        Raises:
            CallamaError: an assistant's text would be read as a call.
        """
        out = Rendered()
        out.add(self._frame("begin"))
        for role, segments in render_turns(conversation):
            out.add(self._frame("header", role))
            start = len(out.ids)
            if role == "assistant":
                ids, kinds = self.answer(segments)
                out.ids += ids
                out.kinds += kinds
                out.add([self.tokenizer.special(self.markup.end)], Kind.END_OF_TURN)
                out.answers.append((start, len(out.ids)))
            else:
                text = "".join(s.text for s in segments)
                out.add(self._opening(text) if role == "system" else self.tokenizer.encode(text))
                out.add([self.tokenizer.special(self.markup.end)])
            out.add(self._frame("after"))
            if role == "system" and not out.opening:
                out.opening = len(out.ids)
        return out

    def _frame(self, part: Literal["begin", "header", "after"], role: str = "") -> list[int]:
        if (part, role) not in self._frames:
            self._frames[part, role] = encode_parts(getattr(self.markup, part), self.tokenizer, role)
        return self._frames[part, role]

    def _opening(self, text: str) -> list[int]:
        if text not in self._openings:
            if len(self._openings) >= _REMEMBERED_OPENINGS:
                self._openings.clear()
            self._openings[text] = self.tokenizer.encode(text)
        return self._openings[text]

    def prompt(self, conversation: Conversation) -> list[int]:
        """What a model is given to answer a conversation: its turns and an open assistant header."""
        return self.conversation(conversation).ids + self._frame("header", "assistant")

    def answer(self, segments: Sequence[Segment]) -> tuple[list[int], list[Kind]]:
        """Ids of an answer's text, and the kind of each.

        A token may span several kinds (``"city``); it counts as the name, key or value that it
        touches, and as syntax only when it is nothing else.
        """
        text = "".join(segment.text for segment in segments)
        ids = self.tokenizer.encode(text)
        if len({segment.kind for segment in segments}) == 1:
            return ids, [segments[0].kind] * len(ids)
        by_byte = b"".join(bytes((segment.kind,)) * len(segment.text.encode()) for segment in segments)
        kinds, at, pieces = [], 0, self.tokenizer.pieces
        for token in ids:
            end = at + len(pieces[token])
            touched = by_byte[at:end].lstrip(_SYNTAX)
            kinds.append(_KINDS[touched[0]] if touched else Kind.CALL_SYNTAX)
            at = end
        assert at == len(by_byte), "byte-level tokens must spell the text exactly"
        return ids, kinds

"""Grammar-constrained choice of tokens with llguidance: which tokens may come next, and which must.

The engine sees a ``Guide``; this is the one there is. A grammar is compiled once for a tokenizer and
copied for each request. What a grammar cannot see, a key that is repeated in an object whose keys
are free, is watched beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from callama.common.errors import CallamaError
from callama.contract.grammar import CALL_OPENING, Choice, answer_grammar
from callama.contract.messages import Tool
from callama.generate.keys import KeyWatch
from callama.text.tokenizer import Tokenizer

KEPT_GRAMMARS = 256


class _Vocabulary:
    """A tokenizer as llguidance wants to see it; special tokens are never part of text."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, stop_ids: Sequence[int]) -> None:
        self._encode = tokenizer.encode
        self.eos_token_id, self.bos_token_id = stop_ids[0], None
        self.tokens = tokenizer.pieces
        self.special_token_ids = sorted(tokenizer.special_tokens.values())

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


class Constrainer:
    """Makes the guides of one model: its ``tokenizer`` and the ids that end its answers."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int]) -> None:
        self._pieces = tokenizer.pieces
        stops = sorted(stop_ids)
        self._tokenizer = LLTokenizer(_Vocabulary(tokenizer, stops), eos_token=stops)  # type: ignore[arg-type]
        self._compiled = lru_cache(KEPT_GRAMMARS)(self._compile)

    def guide(self, tools: Sequence[Tool], choice: Choice) -> MatcherGuide:
        """A guide to one answer of a conversation with these tools.

        Raises:
            CallamaError: the tools' schemas say what the grammar cannot express, or no such tool.
        """
        grammar = answer_grammar(tools, choice)
        try:
            matcher = self._compiled(grammar)
        except CallamaError as error:
            for tool in tools:
                alone = LLMatcher(self._tokenizer, answer_grammar([tool], Choice()), log_level=0)
                if alone.is_error():
                    raise _not_expressed(f"tool {tool.name}: its schema", alone) from None
            raise error
        return MatcherGuide(matcher.deep_copy(), self._pieces)

    def _compile(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise _not_expressed("the tools together", matcher)
        return matcher


def _not_expressed(what: str, matcher: LLMatcher) -> CallamaError:
    reason = matcher.get_error().strip().split("\n")[0]
    return CallamaError(f"{what} cannot be made a grammar: {reason}. Simplify it or generate without constraint")


class MatcherGuide:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher, pieces: list[bytes]) -> None:
        self._matcher, self._pieces = matcher, pieces
        self._keys = KeyWatch(CALL_OPENING.encode())

    @property
    def complete(self) -> bool:
        """Whether nothing can follow but a stop token.

        Raises:
            CallamaError: the grammar became too large.
        """
        self._require_followed()
        return self._matcher.is_stopped()

    def _require_followed(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().strip().split("\n")[0]
            raise CallamaError(f"the grammar of these tools cannot be followed: {reason}")

    def mask(self) -> Tensor:
        """Which ids may come next (vocab,), bool, on the CPU."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return torch.from_numpy(np.unpackbits(bits, count=len(self._pieces), bitorder="little").view(np.bool_))

    def accept(self, token: int) -> bool:
        """Takes a token that the mask allows; False, and nothing is taken, if it would repeat a key.

        Raises:
            CallamaError: the grammar became too large.
        """
        if not self._keys.read(self._pieces[token]):
            return False
        taken = self._matcher.consume_token(token)
        self._require_followed()
        assert taken, "the mask did not allow this token"
        return True

    def forced(self) -> list[int]:
        """Takes and returns the tokens that have to come next, whatever the model says."""
        tokens = self._matcher.compute_ff_tokens()
        for token in tokens:
            taken = self.accept(token)
            assert taken, "a free key is never forced"
        return tokens

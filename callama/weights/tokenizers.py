"""The tokenizer of a source, in the form that each destination wants."""

from __future__ import annotations

from pathlib import Path

from callama.text.hf_tokenizer import is_llama3, meta_lines, spec_of
from callama.text.tokenizer import Tokenizer, load_tokenizer, tokenizer_of_spec
from callama.weights.native import TOKENIZER_JSON, copy_tokenizer
from callama.weights.seal import require_as_written
from callama.weights.source import Source, check_tokenizer

META_TOKENIZER = "tokenizer.model"


def loaded_tokenizer(source: Source) -> Tokenizer | None:
    """The source's tokenizer, ready to use and checked against the model's vocabulary; None without one.

    Raises:
        CallamaError: it is damaged, was changed, or belongs to another model.
    """
    if source.tokenizer is None:
        return None
    if isinstance(source.tokenizer, Path):
        place, tokenizer = source.tokenizer, load_tokenizer(source.tokenizer)
    else:
        place = source.path if source.path.is_file() else source.path / TOKENIZER_JSON
        tokenizer = tokenizer_of_spec(source.tokenizer, place)
    check_tokenizer(source, tokenizer.vocab_size)
    if place != source.path:
        require_as_written(place)
    return tokenizer


def write_meta_tokenizer(source: Source, folder: Path) -> None:
    """Llama 3's as ``tokenizer.model``, which Meta's loader wants; any other as it is.

    Raises:
        CallamaError: it is Llama 3's with tokens of its own.
    """
    tokenizer = source.tokenizer
    if tokenizer is not None and not (isinstance(tokenizer, Path) and tokenizer.name == META_TOKENIZER):
        spec = spec_of(tokenizer)
        if is_llama3(spec):
            (folder / META_TOKENIZER).write_bytes(meta_lines(spec, source.path))
            return
    copy_tokenizer(tokenizer, folder)

"""The tokenizer of a source, in the form that each destination wants."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError
from callama.common.files import write_json
from callama.text.hf_tokenizer import is_llama3, meta_lines, spec_of
from callama.text.tokenizer import Tokenizer, load_tokenizer
from callama.weights.native import TOKENIZER_JSON, copy_tokenizer
from callama.weights.seal import require_as_written
from callama.weights.source import Source, check_tokenizer, find_tokenizer

META_TOKENIZER = "tokenizer.model"


def loaded_tokenizer(source: Source) -> Tokenizer | None:
    """The source's tokenizer, ready to use and checked against the model's vocabulary; None without one.

    Raises:
        CallamaError: it is damaged, was changed, or belongs to another model.
    """
    if source.tokenizer is None:
        return None
    if isinstance(source.tokenizer, Path):
        tokenizer = load_tokenizer(source.tokenizer)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            write_json(path := Path(temporary) / TOKENIZER_JSON, source.tokenizer)
            try:
                tokenizer = load_tokenizer(path)
            except CallamaError as error:
                raise CallamaError(str(error).replace(temporary, str(source.path))) from None
    check_tokenizer(source, tokenizer.vocab_size)
    require_as_written(find_tokenizer(source.path))
    return tokenizer


def write_meta_tokenizer(tokenizer: Path | Mapping[str, Any] | None, folder: Path) -> None:
    """Llama 3's as ``tokenizer.model``, which Meta's loader wants; any other as it is."""
    if tokenizer is not None and not (isinstance(tokenizer, Path) and tokenizer.name == META_TOKENIZER):
        spec = spec_of(tokenizer)
        if is_llama3(spec):
            (folder / META_TOKENIZER).write_bytes(meta_lines(spec))
            return
    copy_tokenizer(tokenizer, folder)

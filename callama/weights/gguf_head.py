"""The head of a GGUF file, read by the ``gguf`` library inside bounds.

The library believes every length that a file tells: a flipped bit makes it collect numbers until memory is gone. Here
each read is held against the file's size and each list against what any model needs, before anything is collected.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

from callama.common.errors import CallamaError
from callama.common.files import require_file

# Far above what any tokenizer, template or model has.
MAX_TEXTS, MAX_TEXT_BYTES, MAX_TENSORS = 1 << 21, 1 << 26, 1 << 17


class _Bounded(gguf.GGUFReader):
    """The library's reader, which checks lengths first and takes lists in one piece: of an array for every text of a
    vocabulary it would make objects for seconds and half a gigabyte."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, min(int(count), len(self.data)), override_order)
        if len(found) != int(count):
            raise ValueError(f"{int(count):,} values at byte {int(offset):,} reach beyond the end")
        return found

    def _get_str(self, offset: int) -> Any:
        if (length := int(self._get(offset, np.uint64)[0])) > MAX_TEXT_BYTES:
            raise ValueError(f"the text at byte {int(offset):,} has a length of {length:,} bytes")
        return super()._get_str(offset)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != gguf.GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind, length = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        item = gguf.GGUFValueType(int(kind[0]))
        if item == gguf.GGUFValueType.ARRAY:
            raise ValueError(f"the list at byte {int(orig_offs):,} is one of lists")
        if item in self.gguf_scalar_to_np:
            values = self._get(orig_offs + 12, self.gguf_scalar_to_np[item], length[0])
            return 12 + int(values.nbytes), [kind, length, values], [2], [gguf.GGUFValueType.ARRAY, item]
        if length[0] > MAX_TEXTS:
            raise ValueError(f"the list at byte {int(orig_offs):,} has a length of {int(length[0]):,} texts")
        size, texts = self._texts(int(orig_offs) + 12, int(length[0]))
        return 12 + size, [kind, length, *texts], list(range(2, 2 + len(texts))), [gguf.GGUFValueType.ARRAY, item]

    def _texts(self, offset: int, count: int) -> tuple[int, list[memoryview]]:
        """How many bytes ``count`` texts take, and the texts."""
        data, at, texts = self.data.data, offset, []
        order: Literal["little", "big"] = "little" if self.endianess == gguf.GGUFEndian.LITTLE else "big"
        for _ in range(count):
            length = int.from_bytes(data[at : at + 8], order)
            text = data[at + 8 : at + 8 + length]
            if length > MAX_TEXT_BYTES or len(text) != length:
                raise ValueError(f"the text at byte {at:,} has a length of {length:,} bytes")
            texts.append(text)
            at += 8 + length
        return at - offset, texts

    def _build_tensor_info(self, offs: int, count: int) -> Any:
        if count > MAX_TENSORS:
            raise ValueError(f"it tells of {int(count):,} tensors")
        return super()._build_tensor_info(offs, count)


def read_head(path: Path) -> Any:
    """The ``gguf`` library's reader of a file whose head is whole.

    Raises:
        UsageError: no such file.
        CallamaError: it is not GGUF, cut short or damaged.
    """
    require_file(path, "a GGUF model")
    try:
        return _Bounded(path)
    except Exception as error:  # on damaged bytes the library raises nearly anything, which says nothing to a user
        with path.open("rb") as file:
            if (start := file.read(4)) and not b"GGUF".startswith(start):
                raise CallamaError(
                    f"{path} is not a GGUF file: it begins with {start!r}, expected b'GGUF'; name a GGUF file, or a "
                    "model's folder"
                ) from None
        newer = (
            f". Or a tensor is of a kind that the gguf library does not know ({error}): update it, or take another kind"
            if gguf.GGMLQuantizationType.__name__ in str(error)
            else ""
        )
        raise CallamaError(
            f"{path} is cut short or damaged: its head tells of more than its {path.stat().st_size:,} bytes, or of "
            f"what no GGUF file has; copy or download it again{newer}"
        ) from None


class Fields:
    """Typed access to a file's key-value fields."""

    def __init__(self, reader: Any, path: Path) -> None:
        self._reader, self._path = reader, path

    def names(self) -> list[str]:
        """All fields, in the file's order."""
        return list(self._reader.fields)

    def get(self, key: str, default: Any = None) -> Any:
        """A field's value, or the default where there is one and the field is not.

        Raises:
            CallamaError: neither is there, or the field cannot be read.
        """
        field = self._reader.fields.get(key)
        if field is None:
            if default is None:
                raise CallamaError(f"{self._path} lacks the field {key}; is it a Llama model?")
            return default
        try:
            return field.contents()
        except Exception as error:  # as in read_head
            raise CallamaError(f"{self._path} is damaged: the field {key} cannot be read ({error})") from None

    def items(self, key: str, *, texts: bool) -> Sequence[Any]:
        """A field that is a list of texts, or of numbers.

        Raises:
            CallamaError: it is not there, of another kind, or too long for a tokenizer.
        """
        if (field := self._reader.fields.get(key)) is not None:
            kind, *items = field.types
            if kind != gguf.GGUFValueType.ARRAY or any((item == gguf.GGUFValueType.STRING) != texts for item in items):
                what = "texts" if texts else "numbers"
                raise CallamaError(f"{self._path} is damaged: the field {key} must be a list of {what}; make it again")
            if not texts and sum(len(field.parts[i]) for i in field.data) > MAX_TEXTS:
                raise CallamaError(f"{self._path} is damaged: the field {key} is longer than any tokenizer's")
        found: Sequence[Any] = self.get(key)
        return found

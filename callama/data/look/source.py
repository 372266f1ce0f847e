"""What is looked at: a file of conversations with a tokenizer, or a built data set that names its own.

Both come as record batches of the data set's columns, so that everything behind this reads one form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from callama.common.errors import UsageError
from callama.common.parallel import ordered_map
from callama.data.chunk import Rendered, Settings, chunks, render_chunk, renderer_of
from callama.data.dataset import METADATA, Dataset, read_metadata
from callama.data.records import Scan
from callama.data.split import SIDES
from callama.text.render import Renderer

CONVERSATIONS = "conversations"
NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Source:
    """``sides`` maps ``train`` and ``validation``, or ``conversations``, to their files."""

    path: Path
    tokenizer_file: Path
    sides: dict[str, Path]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def built(self) -> bool:
        """Whether this is a built data set."""
        return CONVERSATIONS not in self.sides

    @property
    def renderer(self) -> Renderer:
        """The renderer of the tokenizer."""
        return renderer_of(self.tokenizer_file)

    @property
    def settings(self) -> Settings:
        """How conversations are rendered to be looked at: whole."""
        return Settings(self.tokenizer_file, "all", NO_LIMIT)

    def batches(self, side: str, workers: int = 1) -> Iterator[Rendered]:
        """Record batches of a side in order; conversations that cannot be rendered come as ``drops``."""
        if self.built:
            for rows in Dataset(self.sides[side]).batches():
                yield Rendered(rows, [])
            return
        work = chunks([(self.sides[side], Scan(self.sides[side]))])
        yield from ordered_map(partial(render_chunk, self.settings), work, workers)


def open_source(path: Path, tokenizer: Path | None) -> Source:
    """Opens a file of conversations (needs ``tokenizer``), a built folder or one of its ``.arrow`` files.

    Raises:
        UsageError: nothing is there, or the tokenizer is missing or not the one the data set was built with.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; expected a file of conversations or a built data set")
    if path.suffix != ".arrow" and not path.is_dir():
        if tokenizer is None:
            raise UsageError(f"{path} is not a built data set; name a tokenizer with --tokenizer to look at it")
        renderer_of.cache_clear()
        renderer_of(tokenizer)
        return Source(path, tokenizer, {CONVERSATIONS: path})
    sides = {path.stem: path}
    if path.is_dir():
        sides = {side: file for side in SIDES if (file := path / f"{side}.arrow").is_file()}
        if not sides:
            raise UsageError(f"{path} holds no train.arrow; expected a folder written by 'callama build'")
    for file in sides.values():
        Dataset(file)
    metadata_file = next(iter(sides.values())).parent / METADATA
    metadata = read_metadata(metadata_file)
    return Source(path, _tokenizer_of(metadata, metadata_file, tokenizer), sides, metadata)


def _tokenizer_of(metadata: dict[str, Any], metadata_file: Path, tokenizer: Path | None) -> Path:
    # A build records the path as it was typed: the same folder may be looked at from another place.
    recorded = Path(str(metadata["tokenizer_file"]))
    places = [recorded, *(folder / recorded for folder in metadata_file.resolve().parents)]
    file = tokenizer or next(filter(Path.is_file, places), None)
    if file is None:
        raise UsageError(f"{metadata_file} names the tokenizer {recorded}, which is not here; name it with --tokenizer")
    renderer_of.cache_clear()
    found = renderer_of(file).tokenizer
    if found.sha256 != metadata.get("tokenizer_sha256"):
        raise UsageError(
            f"{found.file} has sha256 {found.sha256[:12]}…, the data set was built with "
            f"{str(metadata.get('tokenizer_sha256'))[:12]}…; name that one with --tokenizer"
        )
    return file

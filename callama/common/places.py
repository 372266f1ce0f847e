"""Where a path leads, and where a command must not write: onto what it reads, or onto another kind of thing."""

from __future__ import annotations

import os
from pathlib import Path

from callama.common.errors import UsageError
from callama.common.files import MANIFEST, read_manifest


def at_home(path: Path) -> Path:
    """The path with a leading ``~`` expanded; as it is where nobody's home is meant."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def require_apart(out: Path, *sources: Path, what: str = "the source") -> None:
    """Makes sure that writing ``out`` touches no source: neither replaces one nor puts anything into its folder. The
    folder of a source that is a file counts where callama wrote it. ``what`` is the word for a source.

    Raises:
        UsageError: it would.
    """
    place = Path(os.path.realpath(out))
    for source in sources:
        found = Path(os.path.realpath(source))
        folder = found if found.is_dir() else found.parent
        whole = found.is_dir() or (folder / MANIFEST).is_file()
        if place in (found, folder, *found.parents) or (whole and folder in place.parents):
            raise UsageError(f"{out} is also {what}, or lies inside it; choose another place")


def require_kind(path: Path, kind: str) -> None:
    """Makes sure that a folder which callama wrote at ``path`` is of this kind: data does not replace a model.

    Raises:
        UsageError: it is of another.
    """
    if path.is_dir() and (there := read_manifest(path).get("kind", kind)) != kind:
        raise UsageError(f"{path} holds what its {MANIFEST} calls {there!r}, not {kind!r}; choose a new folder")

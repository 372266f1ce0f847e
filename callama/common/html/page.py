"""A report as one file of HTML without scripts, links or anything from elsewhere.

The skeleton's content security policy forbids what a page does not need, so that data which got
past the escaping could still load and run nothing.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from callama import __version__
from callama.common.errors import UsageError
from callama.common.files import MANIFEST, atomic_file
from callama.common.terminal import visible

_BEGINNING = b"<!doctype html>"


def render(package: str, title: str, **values: Any) -> str:
    """``page.html`` of a package, which extends ``skeleton.html``, filled with ``values``."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("callama.common.html", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["tile"] = tile
    template = environment.get_template("page.html")
    # What strangers wrote cannot turn around what stands beside it.
    return visible(template.render(title=title, version=__version__, style=Markup(style()), **values))


def style() -> str:
    """The style sheet of all pages."""
    return (resources.files("callama.common.html") / "page.css").read_text(encoding="utf-8")


def tile(value: str, label: str, mood: str = "") -> Markup:
    """A figure that is seen first; ``mood`` is ``good``, ``alarm`` or nothing."""
    return Markup('<div class="tile {}"><b>{}</b><span>{}</span></div>').format(mood, value, label)


def write_page(path: Path, html: str) -> None:
    """Writes a page, in place of an earlier one at most.

    Raises:
        UsageError: another file stands there, or the folder is one that callama wrote as a whole.
    """
    require_page_place(path)
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def require_page_place(path: Path) -> None:
    """Makes sure that a page may be written to ``path``, before long work depends on it.

    Raises:
        UsageError: as ``write_page`` does.
    """
    if (path.parent / MANIFEST).is_file():
        raise UsageError(f"{path.parent} is a folder that callama wrote as a whole; write the page beside it")
    if path.is_file():
        with path.open("rb") as file:
            beginning = file.read(64).lstrip()
        if beginning and not beginning.startswith(_BEGINNING):
            raise UsageError(f"{path} exists and is no page; choose another name, like {path.stem}.html")

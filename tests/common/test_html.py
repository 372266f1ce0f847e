"""Pages: where they may be written, and that all of them stand on one skeleton."""

from __future__ import annotations

from pathlib import Path

import pytest

from callama.common.errors import UsageError
from callama.common.files import atomic_folder
from callama.common.html.charts import rows_of_bars, stack
from callama.common.html.page import style, tile, write_page

PAGE = "<!doctype html>\n<html></html>"


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    page, data = tmp_path / "page.html", tmp_path / "train.arrow"
    for text in (PAGE, PAGE + "again"):
        write_page(page, text)
        assert page.read_text() == text
    (tmp_path / "empty").touch()
    write_page(tmp_path / "empty", PAGE)
    data.write_bytes(b"ARROW1")
    with pytest.raises(UsageError, match=r"train\.arrow exists and is no page; choose another name, like train\.html"):
        write_page(data, PAGE)
    assert data.read_bytes() == b"ARROW1"
    with pytest.raises(UsageError, match="is a folder"):
        write_page(tmp_path, PAGE)


def test_no_page_goes_into_a_folder_that_stands_as_a_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "built", {}) as folder:
        (folder / "train.arrow").touch()
    with pytest.raises(UsageError, match="write the page beside it"):
        write_page(tmp_path / "built" / "page.html", PAGE)
    assert not (tmp_path / "built" / "page.html").exists()


def test_what_stands_in_data_is_text(tmp_path: Path) -> None:
    bad = "</style><script>"
    for html in (tile(bad, bad, bad), stack([(bad, bad, 1)]), rows_of_bars([(bad, [(bad, bad, 1, bad, bad)])])):
        assert "<script" not in html and "&lt;script&gt;" in html
    assert "url(" not in style() and "@import" not in style()

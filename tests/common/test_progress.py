"""Progress goes to standard error: lines in a log, never on standard output."""

import pytest

from callama.common import progress
from callama.common.progress import Meter, duration


def test_a_log_gets_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    with Meter("Reading", 2000, "rows") as meter:
        meter.advance(1000, note="[2/3]")
        meter.advance(1000)
    out, err = capsys.readouterr()
    assert out == ""
    first, second, last = err.splitlines()
    assert first.startswith("Reading: 1,000/2,000 rows · ") and first.endswith(" left · [2/3]")
    assert second.startswith("Reading: 2,000/2,000 rows · ") and last == "Reading: 2,000 rows in 0:00"


def test_an_unknown_total_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Meter("Reading", None, "rows") as meter:
        meter.advance()
        raise RuntimeError
    assert capsys.readouterr() == ("", "")


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.6, 75, 3600, -1)] == ["0:00", "1:00", "1:15", "1:00:00", "0:00"]

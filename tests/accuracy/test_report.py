"""The published figures are those of the code and the starts in this repository."""

from __future__ import annotations

from tests.accuracy.report import main


def test_the_document_and_its_plot_are_current() -> None:
    assert main(["--check"]) == 0, "run `make accuracy`"

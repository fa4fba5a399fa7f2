"""What a scenario found: figures beside their bars."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Bar(Enum):
    """What a bar is for."""

    ASSERTED = "asserted"
    """A count or a ratio: the same on every machine; a miss fails the run."""
    REPORTED = "reported"
    """A time, a share of a core or a size: depends on the machine and on what else it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value in words; `held` is None where there is no bar."""

    name: str
    value: str
    bar: str = ""
    held: bool | None = None
    kind: Bar = Bar.REPORTED


@dataclass
class Section:
    """One scenario's part of the report."""

    title: str
    text: str
    load: float = 0.0
    """Processes that wanted to run when the scenario began, on average over a minute."""
    figures: list[Figure] = field(default_factory=list)

    def at_most(self, name: str, value: float, most: float, *, unit: str = "", kind: Bar = Bar.REPORTED) -> None:
        """Add a figure that a bar limits."""
        held = value <= most
        self.figures.append(
            Figure(name=name, value=_number(value, unit), bar=f"≤ {_number(most, unit)}", held=held, kind=kind)
        )

    def at_least(self, name: str, value: float, least: float, *, unit: str = "", kind: Bar = Bar.REPORTED) -> None:
        """Add a figure that must reach a bar."""
        held = value >= least
        self.figures.append(
            Figure(name=name, value=_number(value, unit), bar=f"≥ {_number(least, unit)}", held=held, kind=kind)
        )

    def equal(self, name: str, value: object, wanted: object) -> None:
        """Add a count that must be exactly so."""
        self.figures.append(
            Figure(name=name, value=str(value), bar=str(wanted), held=value == wanted, kind=Bar.ASSERTED)
        )

    def note(self, name: str, value: float | str, unit: str = "") -> None:
        """Add a figure without a bar."""
        shown = value if isinstance(value, str) else _number(value, unit)
        self.figures.append(Figure(name=name, value=shown))

    @property
    def failures(self) -> list[Figure]:
        """Asserted figures that missed their bar."""
        return [figure for figure in self.figures if figure.held is False and figure.kind is Bar.ASSERTED]


def _number(value: float, unit: str) -> str:
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{' ' if unit else ''}{unit}"


def quantile(values: list[float], share: float) -> float:
    """Return a quantile by rank: one of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

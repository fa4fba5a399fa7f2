"""Why there is nothing to apply.

RenderError
├── NotRenderable   the plan names no GPU class to run on
├── OverlayRefused  spec.podTemplate contradicts what the operator manages
└── TemplateFault   a template did not render to what went in: a fault of ours, never of the user's values
"""

from __future__ import annotations


class RenderError(Exception):
    """The plan cannot be rendered; the message says why and what to change."""


class NotRenderable(RenderError):
    """The plan names no GPU class to run on, so there is nothing to render."""


class OverlayRefused(RenderError):
    """`spec.podTemplate` contradicts what the operator manages; `path` is where."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}")


class TemplateFault(RenderError):
    """A template did not render to one YAML mapping that holds exactly the values that went in."""

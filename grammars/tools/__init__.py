"""Tool calls of model families: what ``Grammar.from_tools`` builds.

``definitions`` reads tools and choices, ``layout`` has what formats are made of, ``formats`` lists
them, ``detection`` tells them from chat templates, and each family has a module, whose docstring
says what its messages look like and where that is written.
"""

from __future__ import annotations

from grammars.tools.detection import tool_format_of

__all__ = ["tool_format_of"]

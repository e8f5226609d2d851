"""The stylesheet of an app: each text is parsed once for each set of variables.

Textual's own forgets what it parsed when a theme is set, so that a start parses everything three times:
before the theme, with it, and for the first widget that is mounted later. That is a third of the start.
"""

from __future__ import annotations

from functools import lru_cache

from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.css.types import CSSLocation

THEMES_KEPT = 4


@lru_cache(THEMES_KEPT)
def _parsed(variables: frozenset[tuple[str, str]]) -> dict[tuple[object, ...], list[RuleSet]]:
    """The rules of each text that was parsed with these variables. What is parsed is never changed."""
    return {}


class ParsedOnce(Stylesheet):
    """Textual's stylesheet that keeps the rules of its texts, for the process."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._rules_of = _parsed(frozenset((variables or {}).items()))

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take other variables (another theme's): the rules are those of these from now on."""
        super().set_variables(variables)
        self._rules_of = _parsed(frozenset(variables.items()))

    def _parse_rules(
        self,
        css: str,
        read_from: CSSLocation,
        is_default_rules: bool = False,
        tie_breaker: int = 0,
        scope: str = "",
    ) -> list[RuleSet]:
        given = (css, read_from, is_default_rules, tie_breaker, scope)
        if given not in self._rules_of:
            self._rules_of[given] = super()._parse_rules(*given)
        return self._rules_of[given]

    def reparse(self) -> None:
        """Make the rules of the variables as they are now. Where one cannot be parsed, those before stay.

        Raises StylesheetError or StylesheetParseError.
        """
        self.parse()

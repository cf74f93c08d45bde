"""Error texts for names that do not exist, with the closest known ones."""

import difflib
from collections.abc import Sequence


def unknown(kind: str, got: str, known: Sequence[str], otherwise: str, typed: str | None = None) -> str:
    """Return the text of an error for an unknown name, with the closest of `known`, or `otherwise` where none is close.

    >>> unknown("fruit", "aple", ["apple", "pear"], "see the list")
    "Expected an existing fruit but got 'aple'; did you mean apple?"

    typed: the part of `got` to compare, where that is not all of it.
    """
    close = difflib.get_close_matches(typed or got, known, n=3, cutoff=0.6)
    return f"Expected an existing {kind} but got {got!r}; {f'did you mean {_either(close)}?' if close else otherwise}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

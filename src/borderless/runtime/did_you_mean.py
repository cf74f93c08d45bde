"""What to say about a name that does not exist: which ones were perhaps meant."""

import difflib
from collections.abc import Sequence


def unknown(kind: str, got: str, known: Sequence[str], otherwise: str, typed: str | None = None) -> str:
    """Return the text of an error: `got` does not exist; the closest of `known`, or `otherwise` where nothing is close.

    >>> unknown("fruit", "aple", ["apple", "pear"], "see the list")
    "got the fruit 'aple', which does not exist; did you mean apple?"

    typed: the part of `got` to compare, where that is not all of it.
    """
    close = difflib.get_close_matches(typed or got, known, n=3, cutoff=0.6)
    return f"got the {kind} {got!r}, which does not exist; {f'did you mean {_either(close)}?' if close else otherwise}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

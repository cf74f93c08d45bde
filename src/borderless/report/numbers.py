"""Write numbers, and texts of others, in sentences and tables."""

import math
from collections.abc import Sequence
from fractions import Fraction


def percent(share: float) -> str:
    """Write a share as percent, with three digits at most; what is too small for them is distinguished from 0.

    Example:
        >>> percent(0.123), percent(0.0123), percent(0.0), percent(8.1e-4), percent(3e-9), percent(-0.0)
        ('12 %', '1.2 %', '0 %', '0.08 %', '< 0.01 %', '0 %')
    """
    value = 100 * share
    if not math.isfinite(value):
        return "more than any number"
    if abs(value) >= 10 or value == 0:
        return f"{value + 0.0:.0f} %"
    if abs(value) < 0.01:
        return "< 0.01 %"
    return f"{value:.1f} %" if abs(value) >= 0.1 else f"{value:.2f} %"


def with_interval(share: float, low: float, high: float) -> str:
    """Write a share as percent, with both ends of its interval.

    Example:
        >>> with_interval(0.45, 0.312, 0.58)
        '45 % (31–58 %)'
    """
    return f"{percent(share)} ({100 * low:.0f}–{100 * high:.0f} %)"


def count(number: float) -> str:
    """Write three digits and a letter for thousands, millions, billions or trillions.

    Example:
        >>> count(1234567), count(12)
        ('1.23 M', '12')
    """
    for unit, factor in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)


def sizes(numbers: Sequence[int | Fraction]) -> str:
    """Write one size for each axis.

    Example:
        >>> sizes((224, 320))
        '224×320'
    """
    return "×".join(map(str, numbers))


# Letters that change the direction of the text around them: in a file's name they hide its ending.
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_SAFE = str.maketrans({"<": "‹", ">": "›", **{letter: f"\\u{ord(letter):04x}" for letter in _DIRECTIONS}})


def safe(text: str) -> str:
    r"""Replace what a page would take for a tag or an order in somebody else's text, such as a name or an error.

    Example:
        >>> print(safe("a<b>"), safe("gpj\u202e.exe"), safe("\udcff"))
        a‹b› gpj\u202e.exe \udcff
    """
    return text.translate(_SAFE).encode("utf-8", "backslashreplace").decode("utf-8")

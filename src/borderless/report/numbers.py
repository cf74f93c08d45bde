"""How numbers, and texts of others, are written in sentences and tables."""

import math
from collections.abc import Sequence
from fractions import Fraction


def percent(share: float) -> str:
    """Write a share as percent, with as many digits as it takes to be told from 0.

    Example:
        >>> percent(0.123), percent(0.0123), percent(0.0), percent(8.1e-4), percent(3e-9)
        ('12 %', '1.2 %', '0 %', '0.08 %', '3 · 10⁻⁷ %')
    """
    value = 100 * share
    if not math.isfinite(value):
        return "more than can be told"
    if value >= 10 or value == 0:
        return f"{value:.0f} %"
    if value >= 0.1:
        return f"{value:.1f} %"
    return f"{value:.2f} %" if value >= 0.01 else f"{small(value)} %"


def small(value: float) -> str:
    """Write one digit and a power of ten; 0 stays 0.

    Example:
        >>> small(7.2e-7), small(0.0)
        ('7 · 10⁻⁷', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digit, power = f"{value:.0e}".split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digit} · 10{raised}"


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

"""Numbers in words, as an English speaker reads them.

In:  digits as they are written.  Out: lower-case words, spaces and hyphens.
The words themselves are those of num2words; what is decided here is how digits are read: a year,
a decimal, a telephone number.
"""

import re

from num2words import num2words

_MAX_DIGITS = 15
"""A longer number is read digit by digit: nobody follows "quadrillion"."""
_ORDINARY_PLURALS = {"half": "halves", "quarter": "quarters"}


def cardinal(digits: str) -> str:
    """How many: "1,234" is "one thousand two hundred and thirty-four".

    A number that begins with 0 ("007") or has more than 15 digits is read digit by digit.
    """
    bare = digits.replace(",", "")
    if len(bare) > _MAX_DIGITS or (len(bare) > 1 and bare.startswith("0")):
        return digit_by_digit(bare)
    return _plain(num2words(int(bare)))


def ordinal(digits: str) -> str:
    """Which one: "21" is "twenty-first"."""
    bare = digits.replace(",", "")
    if len(bare) > _MAX_DIGITS:
        return digit_by_digit(bare) + "th"
    return _plain(num2words(int(bare), to="ordinal"))


def year(digits: str) -> str:
    """Four digits as a year: "1905" is "nineteen oh-five", "2024" "twenty twenty-four"."""
    return _plain(num2words(int(digits), to="year"))


def decimal(number: str) -> str:
    """A number with or without a decimal point: "3.14" is "three point one four"."""
    whole, point, after = number.partition(".")
    words = cardinal(whole or "0")
    return f"{words} point {digit_by_digit(after)}" if point and after else words


def digit_by_digit(digits: str) -> str:
    """Every digit by itself: "042" is "zero four two"; what is no digit is left out."""
    return " ".join(num2words(int(digit)) for digit in digits if digit in "0123456789")


def fraction(numerator: str, denominator: str) -> str:
    """One number over another: "three quarters"; beyond 100 "three over two hundred"."""
    above, below = int(numerator), int(denominator)
    if below < 2 or below > 100:
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    part = {2: "half", 4: "quarter"}.get(below) or ordinal(denominator)
    part = part if above == 1 else _ORDINARY_PLURALS.get(part, part + "s")
    return f"{cardinal(numerator)} {part}"


def plural(words: str) -> str:
    """Of a number in words: "nineteen ninety" is "nineteen nineties"."""
    return re.sub(r"y$", "ie", words) + ("es" if words.endswith("x") else "s")


def _plain(words: str) -> str:
    return words.replace(",", "")

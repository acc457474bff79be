"""Whatever is written with digits, in words: dates, times, money, units, fractions, telephones.

In:  text with digits.  Out: the same text without any.
Rules are tried in the order of `_RULES`, the special before the general; what a rule has put into
words no later one sees as a number. Where English has two ways, the American one is taken: 5/3/2024
is May third, since that is what the format means where it is used most. 31/12/2024 can only be the
other one and is read so.
"""

# ruff: noqa: RUF001  dashes and signs that look like others are the subject here

import re
from collections.abc import Callable
from typing import NamedTuple

from unimoe.tokens.number_words import (
    cardinal,
    decimal,
    digit_by_digit,
    fraction,
    ordinal,
    plural,
    year,
)

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MONTH = "|".join(f"{month}|{month[:3]}\\.?" for month in MONTHS) + "|Sept\\.?"
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_ALONE = r"(?<![\w.,])"  # what stands before a number that begins here
# The last full stop of p.m. is its own where the sentence goes on.
_HALF_OF_DAY = r"[AaPp]\.[Mm]\.(?=[ ,;:)]+[a-z])|[AaPp]\.?[Mm]\b"


class _Coin(NamedTuple):
    """What a currency is called: one, several, and its hundredth part, one and several."""

    one: str
    several: str
    cent: str
    cents: str


_CURRENCIES = {
    "$": _Coin("dollar", "dollars", "cent", "cents"),
    "€": _Coin("euro", "euros", "cent", "cents"),
    "£": _Coin("pound", "pounds", "penny", "pence"),
    "¥": _Coin("yen", "yen", "sen", "sen"),
    "₹": _Coin("rupee", "rupees", "paisa", "paise"),
}
_CODES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹"}
_SCALES = {"k": "thousand", "m": "million", "bn": "billion", "tn": "trillion"}
_SCALE = r"thousand|million|billion|trillion|k|K|[mM]|bn|tn"

_UNITS = {
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "µg": "microgram",
    "t": "ton",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "km": "kilometer",
    "m": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    "µm": "micrometer",
    "nm": "nanometer",
    "mi": "mile",
    "ft": "foot",
    "in.": "inch",
    "yd": "yard",
    "ha": "hectare",
    "l": "liter",
    "L": "liter",
    "dl": "deciliter",
    "cl": "centiliter",
    "ml": "milliliter",
    "mL": "milliliter",
    "s": "second",
    "sec": "second",
    "ms": "millisecond",
    "µs": "microsecond",
    "ns": "nanosecond",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "GW": "gigawatt",
    "Wh": "watt hour",
    "kWh": "kilowatt hour",
    "V": "volt",
    "mV": "millivolt",
    "mA": "milliampere",
    "mAh": "milliampere hour",
    "Ω": "ohm",
    "J": "joule",
    "kJ": "kilojoule",
    "cal": "calorie",
    "kcal": "kilocalorie",
    "N": "newton",
    "Pa": "pascal",
    "hPa": "hectopascal",
    "kPa": "kilopascal",
    "bar": "bar",
    "psi": "pound per square inch",
    "°C": "degree Celsius",
    "°F": "degree Fahrenheit",
    "°": "degree",
    "mph": "mile per hour",
    "kph": "kilometer per hour",
    "rpm": "turn per minute",
    "kB": "kilobyte",
    "KB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "MiB": "mebibyte",
    "GiB": "gibibyte",
    "kbps": "kilobit per second",
    "Mbps": "megabit per second",
    "Gbps": "gigabit per second",
    "fps": "frame per second",
    "px": "pixel",
    "dpi": "dot per inch",
    "dB": "decibel",
    "mol": "mole",
    "lm": "lumen",
    "yr": "year",
    "yrs": "year",
    "mo": "month",
    "wk": "week",
}
_IRREGULAR = {"foot": "feet", "inch": "inches", "hertz": "hertz", "kilohertz": "kilohertz"}
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_POWERS = {"²": "square ", "2": "square ", "³": "cubic ", "3": "cubic "}


def spoken_numbers(text: str) -> str:
    """Every number of a text in words.

    Args:
        text: with ASCII digits, hyphens and apostrophes; dashes as they are.
    """
    for pattern, spoken in _RULES:
        text = pattern.sub(spoken, text)
    return text


def _iso_date(match: re.Match[str]) -> str:
    return _date(match[3], int(match[2]), match[1]) or match[0]


def _slash_date(match: re.Match[str]) -> str:
    first, second = int(match[1]), int(match[2])
    month, day = (second, first) if first > 12 else (first, second)
    return _date(str(day), month, match[3]) or match[0]


def _day_month(match: re.Match[str]) -> str:
    article = "" if match[1] else "the "
    date = f"{match[1] or ''}{article}{ordinal(match[2])} of {_month_name(match[3])}"
    return f"{date} {year(match[4])}" if match[4] else date


def _month_day(match: re.Match[str]) -> str:
    date = f"{_month_name(match[1])} {ordinal(match[2])}"
    return f"{date}, {year(match[3])}" if match[3] else date


def _date(day: str, month: int, year_digits: str) -> str | None:
    """None: there is no such day."""
    if not (1 <= month <= 12 and 1 <= int(day) <= 31):
        return None
    spoken_year = year(year_digits) if len(year_digits) == 4 else cardinal(year_digits)
    return f"{MONTHS[month - 1]} {ordinal(str(int(day)))}, {spoken_year}"


def _month_name(written: str) -> str:
    return next(month for month in MONTHS if month.startswith(written[:3]))


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = match[1], match[2], match[3], match[4]
    if int(hour) > 24 or int(minute) > 59:
        return f"{cardinal(hour)} to {cardinal(str(int(minute)))}"  # a ratio, as in 16:90
    words = _plain_hour(hour)
    if minute == "00":
        on_the_hour = "o'clock" if 1 <= int(hour) <= 12 else "hundred"
        words += "" if half or second else f" {on_the_hour}"
    else:
        words += f" oh {cardinal(minute[1])}" if minute[0] == "0" else f" {cardinal(minute)}"
    if second:
        words += f" and {_counted(str(int(second)), 'second')}"
    return f"{words} {_half_of_day(half)}" if half else words


def _hour(match: re.Match[str]) -> str:
    return f"{_plain_hour(match[1])} {_half_of_day(match[2])}"


def _plain_hour(hour: str) -> str:
    return cardinal(str(int(hour)))


def _half_of_day(written: str) -> str:
    return " ".join(letter for letter in written.upper() if letter in "APM")


def _money(match: re.Match[str]) -> str:
    sign, coin = match["sign"] or "", _CURRENCIES[match["symbol"]]
    return _minus(sign) + _amount(match["number"], match["scale"], coin)


def _money_by_code(match: re.Match[str]) -> str:
    return _amount(match["number"], match["scale"], _CURRENCIES[_CODES[match["code"]]])


def _amount(number: str, scale: str | None, coin: _Coin) -> str:
    if scale:
        return f"{decimal(number)} {_SCALES.get(scale.lower(), scale)} {coin.several}"
    whole, _, cents = number.replace(",", "").partition(".")
    if len(cents) != 2:
        return f"{decimal(number)} {coin.one if number == '1' else coin.several}"
    pieces = []
    if int(whole or 0) or not int(cents):
        pieces.append(f"{cardinal(whole)} {coin.one if whole == '1' else coin.several}")
    if int(cents):
        small = coin.cent if int(cents) == 1 else coin.cents
        pieces.append(f"{cardinal(str(int(cents)))} {small}")
    return " and ".join(pieces)


def _cents(match: re.Match[str]) -> str:
    return _counted(match[1], "cent")


def _share(match: re.Match[str]) -> str:
    return f"{decimal(match[1])} {'percent' if match[2] == '%' else 'per mille'}"


def _measure(match: re.Match[str]) -> str:
    power = _POWERS.get((match["power"] or "").lstrip("^"), "")
    words = _counted(match["number"], power + _UNITS[match["unit"]])
    return f"{words} per {_UNITS[match['per']]}" if match["per"] else words


def _counted(number: str, noun: str) -> str:
    """A number and what it counts: "one mile per hour", "two feet", "0.5 meters" in words."""
    if number == "1":
        return f"one {noun}"
    name, per, rest = noun.partition(" per ")
    head, space, last = name.rpartition(" ")
    if head.startswith("degree"):
        name = f"degrees {last}"
    else:
        several = last if last.endswith("hertz") else _IRREGULAR.get(last, last + "s")
        name = head + space + several
    return f"{decimal(number)} {name}{per}{rest}"


def _feet_and_inches(match: re.Match[str]) -> str:
    return f"{_counted(match[1], 'foot')} {_counted(match[2], 'inch')}"


def _mixed_fraction(match: re.Match[str]) -> str:
    below = fraction(match[2], match[3])
    if match[2] == "1":
        below = re.sub("^one ", "an " if match[3] in ("8", "11", "18") else "a ", below)
    return f"{cardinal(match[1])} and {below}"


def _fraction(match: re.Match[str]) -> str:
    if match[0] == "24/7" or match[1] == match[2]:  # around the clock, and fifty-fifty
        return f"{cardinal(match[1])} {cardinal(match[2])}"
    if len(match[1]) == 4 and len(match[2]) == 2:
        return f"{year(match[1])} to {cardinal(match[2])}"
    return fraction(match[1], match[2])


def _telephone(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    groups = re.findall(r"\d+", match[0])
    return plus + ", ".join(digit_by_digit(group) for group in groups)


def _power_of_ten(match: re.Match[str]) -> str:
    base = match[1] and f"{decimal(match[1])} times "
    sign, exponent = match[2], match[3]
    return f"{base or ''}ten to the power of {_minus(sign)}{cardinal(exponent)}"


def _decade(match: re.Match[str]) -> str:
    digits = match[1]
    return plural(year(digits) if len(digits) == 4 else cardinal(digits))


def _version(match: re.Match[str]) -> str:
    return " point ".join(cardinal(group) for group in match[0].split("."))


def _minus(sign: str | None) -> str:
    return "minus " if sign else ""


def _whole(match: re.Match[str]) -> str:
    """A number nothing more is known of."""
    digits = match[0]
    if re.fullmatch(r"1[1-9]\d\d|20\d\d", digits):
        return year(digits)
    if len(digits) >= 7 and "," not in digits and not digits.endswith("000"):
        return digit_by_digit(digits)  # a telephone or an identity number
    return decimal(digits) if "." in digits else cardinal(digits)


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), spoken)
    for pattern, spoken in (
        (r"~(?=\d)", lambda _: "about "),
        (r"(?<=\d)[-–](?=\d{1,2}:\d\d)", lambda _: " to "),
        (r"(?:(?<=\d[kKmM%])|(?<=[ap]m)|(?<=[AaPp]\.[Mm]\.))[-–](?=[$€£]?\d)", lambda _: " to "),
        (_ALONE + r"(\d{4})-(\d\d)-(\d\d)(?![\w-])", _iso_date),
        (_ALONE + r"(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![\w/])", _slash_date),
        (
            rf"\b([Tt]he )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})(?![a-z])"
            r"(?:,? (\d{4})(?![\d,.]*\d))?",
            _day_month,
        ),
        (
            rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?(?![\w/:]|[.,]\d)"
            r"(?:,? (\d{4})(?![\d,.]*\d))?",
            _month_day,
        ),
        (
            _ALONE + rf"(\d{{1,2}}):(\d\d)(?::(\d\d))?(?:\s?({_HALF_OF_DAY}))?(?!\w)",
            _time,
        ),
        (_ALONE + rf"(\d{{1,2}})\s?({_HALF_OF_DAY})", _hour),
        (
            r"(?P<sign>(?<!\w)-)?(?:US|A|C)?(?P<symbol>[$€£¥₹])\s?"
            rf"(?P<number>{_NUMBER})(?:\s?(?P<scale>{_SCALE})\b)?",
            _money,
        ),
        (
            _ALONE + rf"(?P<number>{_NUMBER})(?:\s?(?P<scale>{_SCALE})\b)?\s?"
            rf"(?P<code>{'|'.join(_CODES)})\b",
            _money_by_code,
        ),
        (
            _ALONE + rf"(?P<number>{_NUMBER})(?:\s?(?P<scale>{_SCALE})\b)?\s?(?P<symbol>[€£])"
            r"(?P<sign>(?!))?",
            _money,
        ),
        (_ALONE + r"(\d+)\s?¢", _cents),
        (rf"(?<![\w.,])({_NUMBER})\s?([%‰])", _share),
        (r"(?<!\w)(\d+)'\s?(\d+)\"", _feet_and_inches),
        (r"(?<![\w.,])'?(\d{4}|\d0)s\b", _decade),
        (
            _ALONE + r"(?:\+\d{1,3}[ -]?(?:\(?\d{1,4}\)?[ -]?)\d{2,4}(?:[ -]?\d{2,4}){1,4}"
            r"|(?:\(\d{3}\)[ -]?|\d{3}[-. ])\d{3}[-.]\d{4}|\d{3}-\d{4})(?![\w-]|\.\d)",
            _telephone,
        ),
        (_ALONE + r"(\d+) (\d+)/(\d+)(?![\w/])", _mixed_fraction),
        (_ALONE + r"(\d+)/(\d+)(?![\w/])", _fraction),
        (
            rf"(?<![\w.,])(?P<number>{_NUMBER})(?:\s|-)?(?P<unit>{_UNIT})(?P<power>²|³|\^?[23])?"
            rf"(?:/(?P<per>{_UNIT}))?(?![\w'^-])",
            _measure,
        ),
        (_ALONE + r"(?:(\d+(?:\.\d+)?)\s?[x×*]\s?)?10\^([-−])?(\d+)", _power_of_ten),
        (_ALONE + r"(\d+(?:\.\d+)?)[eE]([-−])?\+?(\d+)\b", _power_of_ten),
        (_ALONE + r"\d+(?:\.\d+){2,}(?!\w)", _version),
        (r"(?<=\d)(?:-|\s?–\s?)(?=\d)", lambda _: " to "),
        (r"(?<=\d) ?[x×] ?(?=\d)", lambda m: " by " if m[0].strip() == "x" else " times "),
        (r"(?<=\d)\s*\*\s*(?=\d)", lambda _: " times "),
        (r"(?<=\d) [-−] (?=\d)", lambda _: " minus "),
        (r"(?<![\w)])[-−](?=\.?\d)", lambda _: "minus "),
        (r"(\d+):(\d+)", lambda m: f"{m[1]} to {m[2]}"),
        (r"#(?=\d)", lambda _: "number "),
        (r"(\d[\d,]*)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1])),
        # Letters and digits that touch are said apart: MP3, H2O, 4K.
        (r"(?<=[A-Za-z])-?(?=\d)", lambda _: " "),
        (r"(?<=\d)(?=[A-Za-z])", lambda _: " "),
        (r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|(?<!\w)\.\d+|\d+", _whole),
    )
)

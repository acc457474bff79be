"""What is written, and how it is said."""

# ruff: noqa: RUF001  characters that look like others are the subject here

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.tokens.number_words import cardinal, decimal, fraction, ordinal, plural, year
from unimoe.tokens.spoken_form import SPEAKABLE, spoken_form

SAID = {
    "numbers": {
        "42 pears": "forty-two pears.",
        "1,234,567": "one million two hundred and thirty-four thousand five hundred and"
        " sixty-seven.",
        "3.14 or .5": "three point one four or zero point five.",
        "It is -5.5 here": "It is minus five point five here.",
        "−3": "minus three.",
        "007": "zero zero seven.",
        "1000000": "one million.",
        "12345678": "one two three four five six seven eight.",
        "1234567890123456789": "one two three four five six seven eight nine zero one two three"
        " four five six seven eight nine.",
        "the 1st, 22nd & 103rd": "the first, twenty-second and one hundred and third.",
        "5-10 apples": "five to ten apples.",
        "1,000-2,000": "one thousand to two thousand.",
        "5 - 3 = 2": "five minus three equals two.",
        "3*4, 3×4, 3 x 4": "three times four, three times four, three by four.",
        "10^6": "ten to the power of six.",
        "1.5e-6": "one point five times ten to the power of minus six.",
        "3 x 10^8": "three times ten to the power of eight.",
        "version 1.2.3": "version one point two point three.",
        "16:9": "sixteen to nine.",
        "100+": "one hundred plus.",
        "#1 and ~5 km": "number one and about five kilometers.",
        "٣ cups": "three cups.",
        "5-year-old": "five-year-old.",
    },
    "years": {
        "In 1999 and 2024": "In nineteen ninety-nine and twenty twenty-four.",
        "2005": "two thousand and five.",
        "1900": "nineteen hundred.",
        "the 1990s, '80s, mid-1970s": "the nineteen nineties, eighties, mid-nineteen seventies.",
        "1939–1945": "nineteen thirty-nine to nineteen forty-five.",
        "2024/25": "twenty twenty-four to twenty-five.",
    },
    "dates": {
        "3 May 2024": "the third of May twenty twenty-four.",
        "on the 3rd of May 2024, ok": "on the third of May twenty twenty-four, ok.",
        "May 3, 2024": "May third, twenty twenty-four.",
        "Jan. 5 and Sept. 7th": "January fifth and September seventh.",
        "2024-05-03": "May third, twenty twenty-four.",
        "5/3/2024": "May third, twenty twenty-four.",
        "31/12/2024": "December thirty-first, twenty twenty-four.",
        "1/3/24": "January third, twenty-four.",
        "maybe 5": "maybe five.",
        "May 5,000 come": "May five thousand come.",
    },
    "times": {
        "3:45 pm": "three forty-five P M.",
        "at 3:45 p.m.": "at three forty-five P M.",
        "5 p.m. tomorrow. At 5 p.m. Then": "five P M tomorrow. At five P M. Then.",
        "3:00, 3:05, 15:00, 00:30": "three o'clock, three oh five, fifteen hundred, zero thirty.",
        "3:45:10": "three forty-five and ten seconds.",
        "10:30-11:30": "ten thirty to eleven thirty.",
        "10 a.m.-5pm": "ten A M to five P M.",
    },
    "money": {
        "$3.50 and $1": "three dollars and fifty cents and one dollar.",
        "$0.99": "ninety-nine cents.",
        "$1,234.56": "one thousand two hundred and thirty-four dollars and fifty-six cents.",
        "$3.5 million": "three point five million dollars.",
        "-$5, US$5bn": "minus five dollars, five billion dollars.",
        "£2.01, 20€, 5 EUR": "two pounds and one penny, twenty euros, five euros.",
        "50¢": "fifty cents.",
        "£5.5": "five point five pounds.",
        "$0.00": "zero dollars.",
    },
    "shares and units": {
        "5% of 3.5%": "five percent of three point five percent.",
        "5 kg, 1 kg, 0.5 kg": "five kilograms, one kilogram, zero point five kilograms.",
        "100 km/h, 1 km/h": "one hundred kilometers per hour, one kilometer per hour.",
        "20 °C, 1 °F, 90°": "twenty degrees Celsius, one degree Fahrenheit, ninety degrees.",
        "3 m², 5 m^2, 2 m3": "three square meters, five square meters, two cubic meters.",
        "2 ft, 6 MB/s, 2 GHz": "two feet, six megabytes per second, two gigahertz.",
        "5'10\" tall": "five feet ten inches tall.",
        "24kHz": "twenty-four kilohertz.",
        "5 minutes": "five minutes.",
        "2 t-shirts": "two t-shirts.",
    },
    "fractions": {
        "1/2, 3/4, 5/16, 1/250": "one half, three quarters, five sixteenths, one over two hundred"
        " and fifty.",
        "2 1/2, 1 1/8, 2½, ¾": "two and a half, one and an eighth, two and a half, three quarters.",
        "24/7 and 50/50": "twenty-four seven and fifty fifty.",
    },
    "telephones": {
        "555-1234": "five five five, one two three four.",
        "(212) 555-0123": "two one two, five five five, zero one two three.",
        "212-555-0123": "two one two, five five five, zero one two three.",
        "+49 30 1234567": "plus four nine, three zero, one two three four five six seven.",
    },
    "abbreviations": {
        "Dr. Lee, Mr. X and Mrs. Y": "Doctor Lee, Mister X and Missus Y.",
        "Main St. and St. Paul": "Main Street and Saint Paul.",
        "e.g. apples, i.e. fruit": "for example apples, that is fruit.",
        "E.g., a": "For example, a.",
        "Plums, etc.": "Plums, et cetera.",
        "Plums, etc., and figs": "Plums, et cetera, and figs.",
        "No. 5, pp. 3-4, Fig. 2": "number five, pages three to four, figure two.",
        "He said no. 5 agreed.": "He said no. five agreed.",
        "Acme Inc. sells": "Acme Incorporated sells.",
        "red vs. blue": "red versus blue.",
        "Ph.D. w/o": "P H D without.",
        "J. R. R. Tolkien": "J R R Tolkien.",
    },
    "capitals": {
        "USA, HTML, CPUs": "U S A, H T M L, C P U's.",
        "The U.S. army of the U.S.": "The U S army of the U S.",
        "NASA, NEVER, I": "NASA, NEVER, I.",
        "the UN's A.I.": "the U N's A I.",
        "STOP NOW OR ELSE": "STOP NOW OR ELSE.",
        "MP3, H2O, GPT-4, 3D, 4K": "M P three, H two O, G P T four, three D, four K.",
        "H₂O": "H two O.",
        "COVID-19": "COVID nineteen.",
    },
    "Roman numerals": {
        "Henry VIII": "Henry the eighth.",
        "World War II": "World War two.",
        "Chapter IV": "Chapter four.",
        "I mix IV": "I mix I V.",
    },
    "symbols": {
        "R&D @home": "R and D at home.",
        "x² + y³ ≤ 5": "x squared plus y cubed at most five.",
        "C# and C++": "C sharp and C plus plus.",
        "a -> b, a/b, c:\\d": "a to b, a slash b, c, backslash d.",
        "Is 5>3?": "Is five greater than three?",
        "snake_case": "snake underscore case.",
        "(quietly) — and left…": "quietly, and left.",
        "A & B; C: D": "A and B, C, D.",
        "Wait... what?!": "Wait. what?",
        "«Hello,» he said.": "Hello, he said.",
        "'tis 'quoted' dogs' don't": "'tis quoted dogs don't.",
        "an 'apple'.": "an apple.",
    },
    "addresses": {
        "https://www.example.com/path?x=1.": "W W W dot example dot com slash path question mark x"
        " equals one.",
        "bob.smith@mail.co.uk": "bob dot smith at mail dot co dot U K.",
        "See answer.wav": "See answer dot wav.",
        "<https://a.org>": "a dot org.",
    },
    "markdown": {
        "**bold**, *it*, `code`, ~~old~~, __b__": "bold, it, code, old, b.",
        "[link](http://a.b/c) ![cat](c.png)": "link cat.",
        "# Title\n\nText": "Title. Text.",
        "- one\n- two": "one. two.",
        "1. first\n2) second": "one, first. two, second.",
        "> quoted": "quoted.",
        "```python\nx\n```": "x.",
        "| a | b |\n|---|---|\n| c | d |": "a, b c, d.",
        "a\n\n---\n\nb": "a b.",
        "<b>Hi</b> &amp; bye<br>x": "Hi and bye x.",
        "2 \\* 3": "two times three.",
    },
    "letters": {
        "Zürich, naïve, Œuvre, straße": "Zurich, naive, OEuvre, strasse.",
        "α and Ж": "alpha and zhe.",
        "Привет": "foreign word.",
        "日本語": "foreign word.",
        "Great! 😀🎈": "Great! grinning face, balloon.",
        "👍🏽": "thumbs up sign.",
        "\N{REPLACEMENT CHARACTER}": "unknown character.",
    },
    "nothing": {"": "", " \n": "", "...": "", "---": "", "''": ""},
}


@pytest.mark.parametrize(
    ("written", "said"), [pair for table in SAID.values() for pair in table.items()]
)
def test_what_is_written_is_said(written: str, said: str) -> None:
    assert spoken_form(written) == said


@given(st.text(max_size=60))
def test_every_text_comes_out_in_speakable_characters(text: str) -> None:
    said = spoken_form(text)
    assert set(said) <= set(SPEAKABLE)
    assert said == said.strip()
    assert not said or said[-1] in ".,?!"


@given(st.text("0123456789.,:/-+$%x' kmapst(", max_size=24))
def test_no_shape_of_digits_is_too_odd(text: str) -> None:
    assert set(spoken_form(text)) <= set(SPEAKABLE)


@given(st.lists(st.text(string.ascii_lowercase, min_size=1), min_size=1))
def test_plain_words_are_left_as_they_are(words: list[str]) -> None:
    assert spoken_form(" ".join(words)) == " ".join(words) + "."


@pytest.mark.parametrize("text", [text for table in SAID.values() for text in table.values()])
def test_what_is_said_is_not_changed_by_saying_it_again(text: str) -> None:
    assert spoken_form(text) == text


def test_figures_in_words() -> None:
    assert cardinal("1,005") == "one thousand and five"
    assert ordinal("12") == "twelfth"
    assert year("1905") == "nineteen oh-five"
    assert decimal("2.50") == "two point five zero"
    assert fraction("3", "2") == "three halves"
    assert plural("twenty") == "twenties"

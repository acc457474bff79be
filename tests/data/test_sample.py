import contextlib
import dataclasses
import json
from pathlib import Path

import pyarrow as arrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from unimoe.data import OmniSample, Turn, read_manifest, split_of, write_manifest
from unimoe.data.sample import Box, Moment, Place, row_of_sample, sample_of_row
from unimoe.errors import DataError

RELEASED = {
    "id": 17,
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is said? <audio>"},
        {"from": "gpt", "value": "Hello."},
    ],
    "image": "a.jpg",
    "audios": ["b.wav"],
    "textual_length": 40,
    "resized_height": 384,
    "resized_width": 384,
}


def test_a_released_row_reads_as_it_is() -> None:
    sample = sample_of_row(RELEASED)

    assert sample.id == "17"
    assert sample.images == ("a.jpg",)
    assert sample.conversations[1] == Turn("assistant", "Hello.")
    assert sample.modalities == "image+audio"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"awnsers": ["x"]}, "unknown key 'awnsers'; the nearest known is 'answers'"),
        ({"images": ["c.jpg"]}, "both images and image are given"),
        ({"audios": []}, "1 <audio> in its words, 0 in audios"),
        ({"audios": [3]}, "audios holds a int; need words"),
        ({"audios": {"b": 1}}, "audios is an object of b; need a list"),
        ({"conversations": []}, "no conversations"),
        ({"conversations": None}, "conversations is missing"),
        ({"conversations": [{"from": "gpt"}]}, "a turn is an object of from"),
        ({"conversations": [{"from": "bot", "value": ""}]}, "from 'bot'; need system, human, gpt"),
        ({"task": "\ud83d"}, "task holds half a character"),
        ({"id": None}, "has the id None"),
        ({"is_spelt": "yes"}, "is_spelt is a str; need true or false"),
        ({"traits": ["x"]}, "traits is a list"),
        ({"traits": {"voice": 3}}, "traits holds a int"),
        ({"places": "here"}, "places is a str"),
        ({"places": [{"words": "x"}]}, "a place is"),
        ({"places": [{"words": "x", "box": [0, 0, 1], "image": 0}]}, "a place is"),
        ({"moments": [{"words": "x", "start_s": "0", "end_s": 1, "audio": 0}]}, "a moment is"),
    ],
)
def test_a_malformed_row_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sample_of_row({**RELEASED, **change})


words = st.text(max_size=20)
turns = st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), words)


def test_places_moments_and_spelling_read_back() -> None:
    sample = dataclasses.replace(
        sample_of_row(RELEASED),
        places=(Place("red circle", Box(0.1, 0.0, 0.5, 0.4)), Place("all of it")),
        moments=(Moment("a bell", 0.5, 2.0),),
        is_spelt=True,
    )
    assert sample_of_row(json.loads(json.dumps(row_of_sample(sample)))) == sample


@given(st.lists(turns, min_size=1, max_size=4), words, st.dictionaries(words, words, max_size=2))
def test_a_written_sample_reads_back(turns: list[Turn], task: str, traits: dict[str, str]) -> None:
    text = [Turn(turn.role, turn.text.replace("<", "")) for turn in turns]
    sample = OmniSample(id="x", conversations=tuple(text), task=task, traits=traits)

    assert sample_of_row(json.loads(json.dumps(row_of_sample(sample)))) == sample


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*sorted(RELEASED), "traits", "task"]), json_values))
def test_a_hostile_row_only_fails(change: dict[str, object]) -> None:
    with contextlib.suppress(DataError):
        sample_of_row({**RELEASED, **change})


def test_a_manifest_reads_any_sample_by_number(tmp_path: Path) -> None:
    samples = [OmniSample(id=str(i), conversations=(Turn("user", f"Ä {i}"),)) for i in range(5)]
    write_manifest(tmp_path / "a.jsonl", samples)
    (tmp_path / "b.json").write_text(json.dumps([row_of_sample(s) for s in samples]))

    lines, whole = read_manifest(tmp_path / "a.jsonl"), read_manifest(tmp_path / "b.json")

    assert list(lines) == list(whole) == samples
    assert lines[-1] == samples[4]
    assert lines[1:3] == samples[1:3]
    with pytest.raises(IndexError, match="has 5 samples; asked for number 5"):
        lines[5]


def test_a_parquet_file_reads_as_its_rows(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A cat."}]
    rows = [
        {"id": "1", "conversations": turns, "images": ["a.png"], "traits": {"voice": "slt"}},
        {"id": "2", "conversations": turns[1:], "images": None, "traits": {"style": "noto"}},
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")

    manifest = read_manifest(tmp_path / "a.parquet")

    assert [s.images for s in manifest] == [("a.png",), ()]
    assert [s.traits for s in manifest] == [{"voice": "slt"}, {"style": "noto"}]


def test_a_broken_parquet_file_or_row_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    rows = [{"id": "1", "conversations": [], "images": [{"bytes": b"x", "path": "a.png"}]}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "b.parquet")

    with pytest.raises(DataError, match="no Parquet file"):
        read_manifest(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"b.parquet, row 1: .*images holds an object of bytes"):
        read_manifest(tmp_path / "b.parquet")[0]


def test_a_bad_line_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "conversations": [{"from": "human", "value": ""}]}\n\n{"id": \n')
    manifest = read_manifest(path)

    assert manifest[0].id == "1"
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: Expecting value"):
        manifest[1]


@pytest.mark.parametrize("text", ["[" * 100_000, "\xff", "NaN", "12", "null", '"x"'])
def test_a_hostile_line_only_fails(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(text.encode("latin-1") + b"\n")

    with pytest.raises(DataError, match="line 1"):
        read_manifest(tmp_path / "a.jsonl")[0]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")

    with pytest.raises(DataError, match=r"of unknown kind '.csv'"):
        read_manifest(tmp_path / "a.csv")
    with pytest.raises(DataError, match="no such manifest"):
        read_manifest(tmp_path / "b.jsonl")


def test_a_key_always_lands_in_the_same_split() -> None:
    assert [split_of(name) for name in ("cat", "dog", "emu", "ox", "yak", "owl", "bee")] == [
        split_of(name) for name in ("cat", "dog", "emu", "ox", "yak", "owl", "bee")
    ]
    found = [split_of(f"word {i}", seed=1) for i in range(2000)]
    assert 1520 < found.count("train") < 1680
    assert 150 < found.count("test") < 250


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    from unimoe.data import SplitRatios

    with pytest.raises(DataError, match="that sum to 1"):
        split_of("cat", 0, SplitRatios(0.5, 0.1, 0.1))

"""Plain text as SmolLM2 itself writes it: mini learns to go on as its core did.

In:  the dense model of the parts; the first words of sentences of the parts `wordnet` and
`chatterbot`.
Out: a data set of one text a sample, said by the assistant.
Every token is drawn at temperature 1 from all of the vocabulary: the likelihood of such texts is
highest where the model is the core, so learning them is learning not to differ from it. Texts that
are short or go round in circles are left out and counted.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

from unimoe.checkpoint.mini import base_directory
from unimoe.checkpoint.weights import load_model
from unimoe.data.build.sentences import Sentence, split_of_sentence, words_of
from unimoe.data.build.speech import speech_sentences
from unimoe.data.card import DataCard
from unimoe.data.sample import PLACEHOLDER, OmniSample, Turn
from unimoe.data.splits import Split, unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.infer.engine import generate
from unimoe.infer.sampling import SamplingOptions
from unimoe.model.omni import OmniModel
from unimoe.nn.precision import product_dtype
from unimoe.parts import fetch, part
from unimoe.tokens.batch import collate
from unimoe.tokens.message import message
from unimoe.tokens.sequence import Sample, encode_chat
from unimoe.tokens.vocabulary import Vocabulary

TASK = "core_prose"
_PARTS = ("wordnet", "chatterbot")
_NUM_TEXTS: Mapping[Split, int] = {"train": 1000, "validation": 40}
_KIND = "example"
"""Of sentence: those that people wrote. Patterns begin too much alike."""
_MIN_OPENING_WORDS, _MAX_OPENING_WORDS = 3, 6
_MAX_NEW_TOKENS = 104
_MIN_WORDS = 20
_WINDOW_WORDS, _MAX_REPEATS = 4, 2
_BATCH_SIZE = 48
_SEED_BITS = 53

_WHOLE_SENTENCES = re.compile(r".*(?<!\d)[.!?][\"')*]*(?=\s|$)", re.DOTALL)
"""Up to the last mark that ends one; "2." may be the number of what would have come."""


class Opening(NamedTuple):
    """What the core goes on from."""

    text: str
    sentence: str
    """That lends it, in bare words: the text belongs to its split."""


class Written(NamedTuple):
    """An opening and what came after it."""

    text: str
    is_ended: bool
    """By the writer, not by the limit of tokens."""


Writer: TypeAlias = Callable[[Sequence[Opening]], list[Written]]


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Let the dense base of mini write; its parts are fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of openings and tokens.
        scale: share of the texts.

    Raises:
        PartsError: a part of the base, or of the sentences, cannot be had.
    """
    sentences = speech_sentences({name: fetch(part(name)) for name in _PARTS}, seed=seed)
    directory = base_directory()
    model = load_model(directory, dtype=product_dtype("cpu"))
    vocabulary = Vocabulary.from_directory(directory, model.config.special_tokens)

    def write(openings: Sequence[Opening]) -> list[Written]:
        return written_by(model, vocabulary, openings, seed=seed)

    counts = {split: max(1, round(count * scale)) for split, count in _NUM_TEXTS.items()}
    write_core_prose(write, sentences, counts, folder, seed=seed)


def write_core_prose(
    write: Writer,
    sentences: Sequence[Sentence],
    counts: Mapping[Split, int],
    folder: Path,
    *,
    seed: int = 0,
) -> None:
    """Let openings be gone on from until enough of what comes is usable.

    Args:
        write: the core.
        sentences: that lend openings.
        counts: texts wanted of each split; where sentences are few, so are texts.
        folder: where the set will stand.
        seed: of the lengths of openings.
    """
    openings = list(openings_of(sentences, seed=seed))
    tally = _Tally()
    with DatasetWriter(folder, TASK, seed, disjoint=["sentence", "opening"]) as writer:
        for split, count in counts.items():
            of_split = [each for each in openings if split_of_sentence(each.sentence) == split]
            samples = _usable_samples(write, of_split, tally)
            for sample in islice(samples, count):
                writer.add(split, sample)
        writer.close(_card(tally))


def openings_of(sentences: Iterable[Sentence], *, seed: int = 0) -> Iterator[Opening]:
    """First words of sentences, each opening once, never the whole sentence."""
    seen = set()
    for sentence in sentences:
        words = sentence.text.split()
        if sentence.kind != _KIND or len(words) <= _MIN_OPENING_WORDS:
            continue
        most = min(_MAX_OPENING_WORDS, len(words) - 1)
        length = random.Random(f"{seed} {sentence.key}").randint(_MIN_OPENING_WORDS, most)
        text = " ".join(words[:length])
        if words_of(text) not in seen:
            seen.add(words_of(text))
            yield Opening(text, sentence.key)


def usable(written: Written) -> str | None:
    """Its whole sentences; None if these are few, or it goes round in circles."""
    text = written.text.strip()
    if not written.is_ended:
        found = _WHOLE_SENTENCES.match(text)
        text = found[0] if found else ""
    words = text.lower().split()
    windows = Counter(zip(*(words[start:] for start in range(_WINDOW_WORDS)), strict=False))
    if len(words) < _MIN_WORDS or max(windows.values(), default=0) > _MAX_REPEATS:
        return None
    # A character cut in two, or what a sample would take for a medium.
    return None if "\N{REPLACEMENT CHARACTER}" in text or PLACEHOLDER.search(text) else text


def written_by(
    model: OmniModel, vocabulary: Vocabulary, openings: Sequence[Opening], *, seed: int = 0
) -> list[Written]:
    """What a model writes after openings, laid out as samples of this set are."""
    options = [
        SamplingOptions(
            max_new_tokens=_MAX_NEW_TOKENS,
            temperature=1.0,
            stop_tokens=tuple(sorted(vocabulary.end_ids)),
            # Of its own: whatever else is in the batch, it draws the same numbers.
            seed=int(unit_hash(f"{TASK} {opening.text}", seed) * 2**_SEED_BITS),
        )
        for opening in openings
    ]
    prompts = [_begun(opening.text, model, vocabulary) for opening in openings]
    batch = collate(prompts, pad_id=model.config.special_tokens.pad, padding="left")
    generation = generate(model, batch, options)
    written = []
    for row, (opening, tokens) in enumerate(zip(openings, generation.tokens(), strict=True)):
        is_ended = generation.usage(row).finish_reason == "stop"
        said = tokens[:-1] if is_ended else tokens
        written.append(Written(opening.text + vocabulary.decode(said), is_ended))
    return written


def _begun(text: str, model: OmniModel, vocabulary: Vocabulary) -> Sample:
    """A turn of the assistant that has not come to its end."""
    whole = encode_chat(
        [message("assistant", text)], vocabulary, model.config, add_generation_prompt=False
    )
    ends = (whole.input_ids == model.config.special_tokens.end_of_turn).nonzero()
    return dataclasses.replace(whole, input_ids=whole.input_ids[: int(ends[-1])])


@dataclasses.dataclass(slots=True)
class _Tally:
    """What became of the openings."""

    num_written: int = 0
    num_left_out: int = 0


def _usable_samples(
    write: Writer, openings: Sequence[Opening], tally: _Tally
) -> Iterator[OmniSample]:
    for start in range(0, len(openings), _BATCH_SIZE):
        batch = openings[start : start + _BATCH_SIZE]
        for opening, written in zip(batch, write(batch), strict=True):
            text = usable(written)
            tally.num_written += 1
            tally.num_left_out += text is None
            if text is not None:
                yield _sample(opening, text)


def _sample(opening: Opening, text: str) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {opening.sentence}",
        conversations=(Turn("assistant", text),),
        task=TASK,
        traits={"sentence": opening.sentence, "opening": words_of(opening.text)},
    )


def _card(tally: _Tally) -> DataCard:
    return DataCard(
        subject="Plain text that SmolLM2-135M-Instruct writes when it is asked nothing: "
        f"{_MIN_OPENING_WORDS} to {_MAX_OPENING_WORDS} given words and up to {_MAX_NEW_TOKENS} "
        "tokens drawn at temperature 1, cut back to the last whole sentence.",
        source="The dense model that mini is made of; examples of WordNet 3.0 lend their first "
        "words.",
        licence="SmolLM2: Apache-2.0; WordNet licence.",
        split_rule="By the hash of the words of the sentence that lends its first words, as in "
        "the set speech; no test.",
        notes=f"{tally.num_written} texts were written; {tally.num_left_out} of them had fewer "
        f"than {_MIN_WORDS} words in whole sentences or repeated themselves. What they say is "
        "often wrong: they keep the manner of the core, not the truth.",
    )

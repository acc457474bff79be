"""Questions that are spoken: about pictures, each of the test also typed, and without pictures.

In:  the built sets easy_vqa, naming and scenes; facts; voices.
Out: a data set. Task "spoken": `<image><audio>`, and "typed": the same picture and question in
     words, joined by the trait "question"; "spoken_chat": `<audio>` alone.
Common questions are asked in every split, about other pictures.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from unimoe.data.build.booth import Booth
from unimoe.data.build.corpora import read_dialogues
from unimoe.data.build.facts import comparisons, sums
from unimoe.data.build.questions import Asked
from unimoe.data.build.sentences import (
    Sentence,
    is_speakable,
    split_of_sentence,
    words_of,
)
from unimoe.data.build.speech import clips_folder
from unimoe.data.build.text import chats, typed_facts
from unimoe.data.build.voices import HELD_OUT_VOICES, VOICE_PARTS, Speakers
from unimoe.data.card import DataCard
from unimoe.data.manifest import media_file, read_manifest
from unimoe.data.sample import PLACEHOLDER, OmniSample, Turn
from unimoe.data.splits import SPLITS, Split, unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.parts import cache_directory, fetch, part

SPOKEN, TYPED, CHAT = "spoken", "typed", "spoken_chat"
_PARTS = ("wordnet", "chatterbot", *VOICE_PARTS)
_IMAGE_SETS = ("scenes", "easy_vqa", "naming")

_NUM_CONVERSATIONS: Mapping[Split, Mapping[str, int]] = {
    "train": {"scenes": 800, "easy_vqa": 350, "naming": 350},
    "validation": {"scenes": 30, "easy_vqa": 15, "naming": 15},
    "test": {"scenes": 150, "easy_vqa": 75, "naming": 75},
}
_NUM_CHATS: Mapping[Split, int] = {"train": 1000, "validation": 40, "test": 120}
_MAX_REPEATS = 25  # of one question, in training
_MAX_CHAT_ANSWER_WORDS = 8
_NUM_SUMS, _NUM_COMPARISONS = 600, 200

_CARD = DataCard(
    subject="A question is heard instead of read: about a picture, or on facts. Every spoken test "
    "question about a picture is there a second time in writing.",
    source="Pictures, questions and answers of the sets scenes, easy_vqa and naming; facts, sums "
    "and short questions of chatterbot-corpus 1.3.3; voices as in the set speech.",
    licence="As of those sets.",
    split_rule="Pictures stay in the split of their set. Questions on facts go by the hash of "
    "their words, as in the set speech; a question about a picture that the test of speech could "
    "hold is not spoken in training. Clips of the same words differ in pace and level.",
    notes="Test questions are spoken seven times of ten by the training voice, else by voices "
    "that training never hears. Half of the training clips are changed by noise, echo and so on.",
)


class Question(NamedTuple):
    """A question of a picture."""

    text: str
    answer: str


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts and from the image sets, which must be built.

    Args:
        folder: where the set will stand, beside the image sets.
        seed: of the choice of questions, voices and paces.
        scale: share of the conversations made.

    Raises:
        DataError: an image set is not there.
    """
    sources = {name: fetch(part(name)) for name in _PARTS}
    sets = {name: cache_directory() / "data" / "mini" / name for name in _IMAGE_SETS}
    speakers = Speakers(sources, clips_folder())
    build_spoken(sources, sets, speakers, folder, seed=seed, scale=scale)


def build_spoken(
    sources: Mapping[str, Path],
    sets: Mapping[str, Path],
    speakers: Speakers,
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Build the data set from folders of parts and of image sets."""
    facts = _facts(sources, seed)
    with DatasetWriter(folder, SPOKEN, seed, held_out={"voice": HELD_OUT_VOICES}) as writer:
        for split in SPLITS:
            booth = Booth(writer, speakers, split, seed)
            for name, counts in ((n, _NUM_CONVERSATIONS[split][n]) for n in sets):
                count = max(1, round(counts * scale))
                for sample in _chosen(sets[name], booth, count, seed):
                    _add_spoken(writer, booth, sets[name], sample)
            own = [each for each in facts if split_of_sentence(each.question) == split]
            for asked in own[: max(1, round(_NUM_CHATS[split] * scale))]:
                writer.add(split, _chat(booth, asked))
        writer.close(_CARD)


def _facts(sources: Mapping[str, Path], seed: int) -> list[Asked]:
    """Questions on facts that can be spoken, with answers of a few words, in random order."""
    rng = random.Random(f"{seed} spoken facts")
    found = [
        *typed_facts(sources, seed=seed),
        *islice(sums(rng, is_spoken=True), _NUM_SUMS),
        *islice(comparisons(rng, is_spoken=True), _NUM_COMPARISONS),
        *chats(read_dialogues(sources["chatterbot"])),
    ]
    spoken = {
        words_of(each.question): each
        for each in found
        if is_speakable(Sentence(each.question, "question"))
        and len(each.answer.split()) <= _MAX_CHAT_ANSWER_WORDS
    }
    return [spoken[key] for key in sorted(spoken, key=lambda key: unit_hash(key, seed))]


def _chosen(folder: Path, booth: Booth, count: int, seed: int) -> Iterator[OmniSample]:
    """Samples of an image set with a question that can be spoken, in random order."""
    manifest = read_manifest(folder / f"{booth.split}.jsonl")
    order = sorted(range(len(manifest)), key=lambda i: unit_hash(f"{folder.name} {i}", seed))
    heard: Counter[str] = Counter()
    for index in order:
        if count == 0:
            return
        sample = manifest[index]
        asked = [each for each in _questions(sample) if _may_ask(each, booth, heard)]
        if asked and sample.modalities == "image":
            kept = asked[:2] if booth.split == "train" else asked[:1]
            heard.update(words_of(each.text) for each in kept)
            count -= 1
            yield _with_questions(sample, kept)


def _questions(sample: OmniSample) -> list[Question]:
    texts = [PLACEHOLDER.sub("", turn.text).strip() for turn in sample.conversations]
    return [Question(*pair) for pair in zip(texts[::2], texts[1::2], strict=True)]


def _may_ask(asked: Question, booth: Booth, heard: Counter[str]) -> bool:
    is_common = booth.split == "train" and heard[words_of(asked.text)] >= _MAX_REPEATS
    return not is_common and booth.may_say(asked.text)


def _with_questions(sample: OmniSample, asked: Sequence[Question]) -> OmniSample:
    """The typed twin: these questions only."""
    turns = [
        turn for each in asked for turn in (Turn("user", each.text), Turn("assistant", each.answer))
    ]
    turns[0] = Turn("user", f"<image>{asked[0].text}")
    accepted = sample.answers if asked[-1] == _questions(sample)[-1] else (asked[-1].answer,)
    return OmniSample(
        id=sample.id,
        conversations=tuple(turns),
        images=sample.images,
        task=sample.task,
        answers=accepted,
        traits=sample.traits,
    )


def _add_spoken(writer: DatasetWriter, booth: Booth, source: Path, sample: OmniSample) -> None:
    """The spoken sample; in the test its typed twin too."""
    rng = booth.chooser(sample.id)
    image = writer.copy("image", media_file(source, sample.images[0]))
    name = booth.voice_of(rng)
    asked = _questions(sample)
    audios = tuple(booth.speak(each.text, name, rng) for each in asked)
    heard = [
        turn for each in asked for turn in (Turn("user", "<audio>"), Turn("assistant", each.answer))
    ]
    heard[0] = Turn("user", "<image><audio>")
    traits = {
        "question": sample.id,
        "set": source.name,
        "kind": sample.traits.get("kind", ""),
        "voice": name,
        "words": asked[-1].text,
    }
    writer.add(
        booth.split,
        OmniSample(
            id=f"{SPOKEN} {sample.id}",
            conversations=tuple(heard),
            images=(image,),
            audios=audios,
            task=SPOKEN,
            answers=sample.answers,
            traits=traits,
        ),
    )
    if booth.split == "test":
        twin = OmniSample(
            id=f"{TYPED} {sample.id}",
            conversations=sample.conversations,
            images=(image,),
            task=TYPED,
            answers=sample.answers,
            traits=traits,
        )
        writer.add("test", twin)


def _chat(booth: Booth, asked: Asked) -> OmniSample:
    rng = booth.chooser(asked.question)
    name = booth.voice_of(rng)
    return OmniSample(
        id=f"{CHAT} {words_of(asked.question)}",
        conversations=(Turn("user", "<audio>"), Turn("assistant", asked.answer)),
        audios=(booth.speak(asked.question, name, rng),),
        task=CHAT,
        answers=asked.accepted,
        traits={"kind": asked.kind, "voice": name, "words": asked.question},
    )

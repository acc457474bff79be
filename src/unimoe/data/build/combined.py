"""Two media in one question: a picture and a sound, a film and a voice that asks, two pictures.

In:  the built sets naming, sounds and video; voices.
Out: a data set. Task "image_sound": both are asked for, or only what is seen or heard;
     "video_spoken": `<video><audio>`, the question is heard; "two_images": the first, the second,
     or whether both show the same.
Media are the files of those sets, byte for byte: what frozen towers computed for them holds here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from unimoe.data.build.booth import Booth
from unimoe.data.build.questions import Asked, capital, short, uncapital
from unimoe.data.build.speech import clips_folder
from unimoe.data.build.voices import HELD_OUT_VOICES, VOICE_PARTS, Speakers
from unimoe.data.card import DataCard
from unimoe.data.manifest import media_file, read_manifest
from unimoe.data.sample import PLACEHOLDER, OmniSample, Turn
from unimoe.data.splits import SPLITS, Split, unit_hash
from unimoe.data.writer import DatasetWriter
from unimoe.parts import cache_directory, fetch, part

IMAGE_SOUND, VIDEO_SPOKEN, TWO_IMAGES = "image_sound", "video_spoken", "two_images"
_SOURCE_SETS = ("naming", "sounds", "video")

_NUM_SAMPLES: Mapping[str, Mapping[Split, int]] = {
    IMAGE_SOUND: {"train": 500, "validation": 20, "test": 100},
    VIDEO_SPOKEN: {"train": 250, "validation": 10, "test": 80},
    TWO_IMAGES: {"train": 300, "validation": 10, "test": 60},
}

_NAME_KINDS = ("name", "instrument")  # of questions in naming and sounds
_IMAGE_SOUND_KINDS = ("both", "seen", "both", "heard")  # take turns
_TWO_IMAGES_KINDS = ("first", "same", "second", "different")

_SEEN_QUESTIONS = ("What is in the picture?", "What does the picture show?", "What do you see?")
_HEARD_QUESTIONS = ("What do you hear?", "Which sound is this?", "What can be heard?")
_SEEN_THEN_HEARD_QUESTIONS = (
    "What do you see and what do you hear?",
    "What is in the picture, and what is the sound?",
    "Name what you see and what you hear.",
)
_HEARD_THEN_SEEN_QUESTIONS = (
    "What do you hear and what do you see?",
    "What is the sound, and what is in the picture?",
    "Name what you hear and what you see.",
)
_ORDINAL_QUESTIONS = (
    "What is in the {} picture?",
    "What does the {} picture show?",
    "What do you see in the {} picture?",
)
_SAME_QUESTIONS = (
    "Are both pictures of the same thing?",
    "Do both pictures show the same thing?",
    "Do the two pictures show the same thing?",
)

_CARD = DataCard(
    subject="Questions that need two media: a picture and a sound, asked for both or for one of "
    "them; a clip, often with its own sound, and a voice that asks about it; two pictures.",
    source="Pictures of naming, sounds and instruments of sounds, clips of video, with their "
    "names, questions and answers; voices as in the set speech.",
    licence="As of those sets.",
    split_rule="Media stay in the split of their set. A question that the test of speech could "
    "hold is not spoken in training. Clips of the same words differ in pace and level.",
    notes="A sound of what the picture shows is left out: the answer tells which medium was "
    "attended to. Who asks for both gets them in the order asked for. Test questions are spoken "
    "seven times of ten by the training voice, else by voices that training never hears.",
)


class Named(NamedTuple):
    """A picture or a sound, and what it is called."""

    sample_id: str
    file: Path
    phrase: str
    """Such as "a cat"."""
    names: tuple[str, ...]
    """All that count as right, the best first."""

    def asked(self, question: str, kind: str) -> Asked:
        """The question for its name."""
        return Asked(question, f"{capital(self.phrase)}.", self.names, kind)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from voices and from the sets it combines, which must be built.

    Args:
        folder: where the set will stand.
        seed: of the choice of media, questions, voices and paces.
        scale: share of the samples made.

    Raises:
        DataError: one of those sets is not there.
    """
    sets = {name: cache_directory() / "data" / "mini" / name for name in _SOURCE_SETS}
    speakers = Speakers({name: fetch(part(name)) for name in VOICE_PARTS}, clips_folder())
    build_combined(sets, speakers, folder, seed=seed, scale=scale)


def build_combined(
    sets: Mapping[str, Path],
    speakers: Speakers,
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Build the data set from folders of the sets it combines."""
    with DatasetWriter(folder, "combined", seed, held_out={"voice": HELD_OUT_VOICES}) as writer:
        for split in SPLITS:
            booth = Booth(writer, speakers, split, seed)
            pictures = _named(sets["naming"], split, seed)
            sounds = _named(sets["sounds"], split, seed)
            made = {
                IMAGE_SOUND: _images_with_sounds(writer, pictures, sounds, seed),
                VIDEO_SPOKEN: _spoken_about(writer, booth, sets["video"], seed),
                TWO_IMAGES: _two_images(writer, pictures, seed),
            }
            for task, samples in made.items():
                count = max(1, round(_NUM_SAMPLES[task][split] * scale))
                for sample in islice(samples, count):
                    writer.add(split, sample)
        writer.close(_CARD)


def _shuffled(folder: Path, split: Split, seed: int) -> list[OmniSample]:
    samples = read_manifest(folder / f"{split}.jsonl")
    return sorted(samples, key=lambda sample: unit_hash(f"combined {sample.id}", seed))


def _named(folder: Path, split: Split, seed: int) -> list[Named]:
    """Media of samples that end with their name, in random order."""
    return [
        Named(
            sample.id,
            media_file(folder, sample.media_paths[0]),
            uncapital(sample.conversations[-1].text.removesuffix(".")),
            sample.answers,
        )
        for sample in _shuffled(folder, split, seed)
        if sample.traits["kind"] in _NAME_KINDS
    ]


def _share_a_name(one: Named, other: Named) -> bool:
    return not {*one.names}.isdisjoint(other.names)


def _images_with_sounds(
    writer: DatasetWriter, pictures: Sequence[Named], sounds: Sequence[Named], seed: int
) -> Iterator[OmniSample]:
    """Every picture once, with one sound after the other."""
    pairs = zip(pictures, cycle(sounds), strict=False)
    apart = (pair for pair in pairs if not _share_a_name(*pair))
    for kind, (picture, sound) in zip(cycle(_IMAGE_SOUND_KINDS), apart, strict=False):
        key = f"{IMAGE_SOUND} {picture.sample_id} {sound.sample_id}"
        rng = random.Random(f"{seed} {key}")
        asked = _asked_of(picture, sound, kind, rng)
        media = rng.choice(("<image><audio>", "<audio><image>"))
        yield OmniSample(
            id=key,
            conversations=_turns(f"{media}{asked.question}", asked.answer),
            images=(writer.copy("image", picture.file),),
            audios=(writer.copy("audio", sound.file),),
            task=IMAGE_SOUND,
            answers=asked.accepted,
            traits={"kind": kind, "image": picture.sample_id, "audio": sound.sample_id},
        )


def _asked_of(picture: Named, sound: Named, kind: str, rng: random.Random) -> Asked:
    if kind == "seen":
        return picture.asked(rng.choice(_SEEN_QUESTIONS), kind)
    if kind == "heard":
        return sound.asked(rng.choice(_HEARD_QUESTIONS), kind)
    if rng.random() < 0.5:
        return _both(picture, sound, rng.choice(_SEEN_THEN_HEARD_QUESTIONS))
    return _both(sound, picture, rng.choice(_HEARD_THEN_SEEN_QUESTIONS))


def _both(first: Named, last: Named, question: str) -> Asked:
    """In the order asked for: the other one would not tell what was seen from what was heard."""
    answer = f"{capital(first.phrase)}, and {last.phrase}."
    accepted = tuple(f"{one} and {other}" for one in first.names for other in last.names)
    return Asked(question, answer, accepted, "both")


def _spoken_about(
    writer: DatasetWriter, booth: Booth, folder: Path, seed: int
) -> Iterator[OmniSample]:
    """The first question on each clip, if it can be spoken."""
    for sample in _shuffled(folder, booth.split, seed):
        question = PLACEHOLDER.sub("", sample.conversations[0].text)
        if not booth.may_say(question):
            continue
        rng = booth.chooser(f"{VIDEO_SPOKEN} {sample.id}")
        name = booth.voice_of(rng)
        answer = sample.conversations[1].text
        traits = {"video": sample.id, "voice": name, "words": question}
        is_only_one = len(sample.conversations) == 2
        if is_only_one:
            # Kind and accepted answers of a sample are those of its last question.
            traits["kind"] = sample.traits["kind"]
        yield OmniSample(
            id=f"{VIDEO_SPOKEN} {sample.id}",
            conversations=_turns("<video><audio>", answer),
            videos=(writer.copy("video", media_file(folder, sample.videos[0])),),
            audios=(booth.speak(question, name, rng),),
            task=VIDEO_SPOKEN,
            answers=sample.answers if is_only_one else (answer,),
            traits=traits,
        )


def _two_images(
    writer: DatasetWriter, pictures: Sequence[Named], seed: int
) -> Iterator[OmniSample]:
    """Kinds take turns, until there is no pair left for the next one."""
    same = _pairs_of_one_thing(pictures)
    pairs = zip(pictures[::2], pictures[1::2], strict=False)
    different = (pair for pair in pairs if not _share_a_name(*pair))
    for kind in cycle(_TWO_IMAGES_KINDS):
        pair = next(same if kind == "same" else different, None)
        if pair is None:
            return
        first, second = pair
        key = f"{TWO_IMAGES} {first.sample_id} {second.sample_id}"
        asked = _asked_of_two(first, second, kind, random.Random(f"{seed} {key}"))
        yield OmniSample(
            id=key,
            conversations=_turns(f"<image><image>{asked.question}", asked.answer),
            images=tuple(writer.copy("image", each.file) for each in pair),
            task=TWO_IMAGES,
            answers=asked.accepted,
            traits={"kind": kind, "first": first.sample_id, "second": second.sample_id},
        )


def _pairs_of_one_thing(pictures: Sequence[Named]) -> Iterator[tuple[Named, Named]]:
    """Pictures with the same names, each picture once."""
    waiting: dict[tuple[str, ...], Named] = {}
    for picture in pictures:
        if picture.names in waiting:
            yield waiting.pop(picture.names), picture
        else:
            waiting[picture.names] = picture


def _asked_of_two(first: Named, second: Named, kind: str, rng: random.Random) -> Asked:
    if kind in ("first", "second"):
        shown = first if kind == "first" else second
        return shown.asked(rng.choice(_ORDINAL_QUESTIONS).format(kind), kind)
    return short(rng.choice(_SAME_QUESTIONS), "yes" if kind == "same" else "no", kind)


def _turns(question: str, answer: str) -> tuple[Turn, Turn]:
    return Turn("user", question), Turn("assistant", answer)

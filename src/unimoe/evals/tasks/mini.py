"""What mini must reach: the tasks, their data, their judges and goals.

In:  nothing.  Out: `MINI`, the suite.
All samples are of test splits, which share no picture, sentence, voice or drawing style with
training (the data sets refuse to be built otherwise).
"""

from unimoe.evals.suite import Pair, PlainText, Suite
from unimoe.evals.task import Task

_PHRASE, _LINE, _SENTENCE = 12, 24, 64
"""Tokens an answer may have; the longest sentence to be transcribed has about 40."""

_IMAGES = (
    Task(
        name="easy_vqa",
        title="easy-VQA, official test",
        dataset="easy_vqa",
        judge="exact",
        by=("kind",),
        goal=0.90,
    ),
    Task(
        name="naming",
        title="Naming drawings of a style never seen (Twemoji)",
        dataset="naming",
        judge="name",
        traits={"style": ("twemoji",)},
        by=("category",),
        max_new_tokens=_PHRASE,
        goal=0.60,
    ),
    Task(
        name="naming_outlines",
        title="Naming outlines by another hand (OpenMoji)",
        dataset="naming",
        judge="name",
        traits={"style": ("openmoji",)},
        by=("category",),
        max_new_tokens=_PHRASE,
    ),
    Task(
        name="scenes",
        title="Composed scenes: colour, count, position",
        dataset="scenes",
        judge="exact",
        traits={"kind": ("colour", "count", "position")},
        by=("kind",),
        max_new_tokens=_PHRASE,
        goal=0.85,
    ),
    Task(
        name="ocr",
        title="Reading rendered text",
        dataset="ocr",
        judge="literal",
        traits={"kind": ("word", "number", "two")},
        by=("kind", "letters"),
        max_new_tokens=_LINE,
        goal=0.85,
    ),
    Task(
        name="ocr_new_words",
        title="Reading words that training never shows",
        dataset="ocr",
        judge="literal",
        traits={"kind": ("new word",)},
        by=("letters",),
        max_new_tokens=_LINE,
    ),
    Task(
        name="scenes_more",
        title="Composed scenes: shape, relation, presence, size, neighbour",
        dataset="scenes",
        judge="exact",
        traits={"kind": ("shape", "relation", "presence", "size", "neighbour")},
        by=("kind",),
        max_new_tokens=_PHRASE,
    ),
)
_PHOTOS = (
    Task(
        name="photos",
        title="Photos, of which training has none",
        dataset="photos",
        training="naming",
        judge="name",
        by=("source",),
        max_new_tokens=_PHRASE,
    ),
)
_SOUNDS = (
    Task(
        name="asr",
        title="Transcripts, training voice",
        dataset="speech",
        judge="wer",
        traits={"voices": ("training",)},
        by=("kind",),
        max_new_tokens=_SENTENCE,
        goal=0.08,
    ),
    Task(
        name="asr_held_out",
        title="Transcripts, voices never heard",
        dataset="speech",
        judge="wer",
        traits={"voices": ("held out",)},
        by=("voice",),
        max_new_tokens=_SENTENCE,
        goal=0.20,
    ),
    Task(
        name="asr_human",
        title="Transcripts, human recordings",
        dataset="speech",
        judge="wer",
        traits={"voices": ("human",)},
        by=("kind",),
        max_new_tokens=_SENTENCE,
    ),
    Task(
        name="asr_more",
        title="Transcripts, other training voices, and two sentences",
        dataset="speech",
        judge="wer",
        traits={"voices": ("further training", "training, two sentences")},
        by=("voices",),
        max_new_tokens=_SENTENCE,
    ),
    Task(
        name="sounds",
        title="Classes of sounds and instruments",
        dataset="sounds",
        judge="name",
        kinds=("sound", "instrument"),
        by=("kind",),
        max_new_tokens=_PHRASE,
        goal=0.75,
    ),
    Task(
        name="melodies",
        title="Melodies, order and number of sounds",
        dataset="sounds",
        judge="name",
        kinds=("melody", "sound_order", "sound_count"),
        by=("kind",),
        max_new_tokens=_PHRASE,
    ),
)
_VIDEOS = (
    Task(
        name="video",
        title="Video: direction, order, count, what was heard when",
        dataset="video",
        judge="exact",
        traits={"kind": ("direction", "order", "count", "heard", "when")},
        by=("kind",),
        max_new_tokens=_PHRASE,
        goal=0.80,
    ),
    Task(
        name="video_change",
        title="Video: what a thing turns into",
        dataset="video",
        judge="exact",
        traits={"kind": ("change",)},
        max_new_tokens=_PHRASE,
    ),
)
_SPOKEN = (
    Task(
        name="spoken",
        title="Spoken questions about images",
        dataset="spoken",
        judge="name",
        kinds=("spoken",),
        by=("voice",),
        max_new_tokens=_PHRASE,
    ),
    Task(
        name="typed",
        title="The same questions typed",
        dataset="spoken",
        judge="name",
        kinds=("typed",),
        max_new_tokens=_PHRASE,
    ),
    Task(
        name="spoken_chat",
        title="Spoken questions without a picture",
        dataset="spoken",
        judge="exact",
        kinds=("spoken_chat",),
        by=("kind",),
        max_new_tokens=_LINE,
    ),
)
_COMBINED = (
    Task(
        name="image_sound",
        title="A picture and a sound: both, or one of them",
        dataset="combined",
        judge="name",
        kinds=("image_sound",),
        by=("kind",),
        max_new_tokens=_LINE,
    ),
    Task(
        name="video_spoken",
        title="Spoken questions about video",
        dataset="combined",
        judge="exact",
        kinds=("video_spoken",),
        by=("kind", "voice"),
        max_new_tokens=_PHRASE,
    ),
    Task(
        name="two_images",
        title="Two pictures: the first, the second, or the same",
        dataset="combined",
        judge="name",
        kinds=("two_images",),
        by=("kind",),
        max_new_tokens=_PHRASE,
    ),
)
_TEXT = (
    Task(
        name="reasoning",
        title="Reasoning in text",
        dataset="text",
        judge="exact",
        kinds=("reasoning",),
        by=("kind",),
        max_new_tokens=_LINE,
    ),
    Task(
        name="facts",
        title="Facts in text",
        dataset="text",
        judge="exact",
        kinds=("fact",),
        by=("kind",),
        max_new_tokens=_PHRASE,
    ),
)
_FIRST_VOICE, _OTHER_VOICES = ("hibari",), ("slt", "awb")
_SPEECH = (
    Task(
        name="codec",
        title="Codec: first voice through it, PocketSphinx",
        dataset="read_aloud",
        judge="wer",
        traits={"voice": _FIRST_VOICE},
        most=100,
    ),
    Task(
        name="codec_others",
        title="Codec: other voices through it, PocketSphinx",
        dataset="read_aloud",
        judge="wer",
        traits={"voice": _OTHER_VOICES},
        by=("voice",),
        most=60,
    ),
    Task(
        name="read_aloud",
        title="Speech: held-out sentences, first voice, PocketSphinx",
        dataset="read_aloud",
        judge="wer",
        traits={"voice": _FIRST_VOICE},
        most=100,
        goal=0.15,
    ),
    Task(
        name="read_aloud_others",
        title="Speech: held-out sentences, other voices, PocketSphinx",
        dataset="read_aloud",
        judge="wer",
        traits={"voice": _OTHER_VOICES},
        by=("voice",),
        most=60,
    ),
    Task(
        name="long_speech",
        title="Speech: two minutes in a row, first voice, PocketSphinx",
        dataset="read_aloud",
        judge="wer",
        traits={"voice": _FIRST_VOICE},
    ),
)

MINI = Suite(
    name="mini",
    tasks=(*_IMAGES, *_PHOTOS, *_SOUNDS, *_VIDEOS, *_SPOKEN, *_COMBINED, *_TEXT),
    pairs=(
        Pair(
            name="spoken_to_typed",
            title="Spoken as a share of typed",
            task="spoken",
            reference="typed",
            trait="question",
            goal=0.85,
        ),
    ),
    text=PlainText(dataset="prose", goal=1.15),
    speech=_SPEECH,
    voices={"hibari": "american woman", "slt": "plain woman", "awb": "scottish man"},
    speech_measures=("codec", "read_aloud", "voice_identity", "long_speech", "speech_speed"),
    drawing_measures=(
        "autoencoder",
        "drawn_names",
        "drawn_scenes",
        "repairs",
        "edits",
        "redrawn",
        "drawing_speed",
    ),
)

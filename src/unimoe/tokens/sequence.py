"""A conversation with its media as one sequence: what the model is given, unpadded.

In:  messages, a vocabulary, the model's configuration.
Out: `Sample` - ids with one placeholder a feature, and the signals the encoders turn into features.

    "<|vision_start|><|image_pad|><|vision_end|>Hi"  +  an image of 1 x 2 tiles, 144 tokens each
     -> vision_start, image_pad x 288, vision_end, Hi      pixel_values [2, 3, 384, 384]

Source: paper, "Omni-modality inputs"; release (docs/sources.md#sequence).
Axes: seq = tokens, tiles and clips = of all media in order, side = of a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from unimoe.config import AudioConfig, MediaLimits, OmniConfig, SpecialTokens, VisionConfig
from unimoe.errors import RequestError
from unimoe.media.audio import AudioClips, load_audio, log_mel_clips
from unimoe.media.image import ImageTiles, load_image, tile_image
from unimoe.media.source import DEFAULT_LIMITS, read_source
from unimoe.media.video import Video, VideoTiles, load_video, tile_video
from unimoe.tokens.labels import assistant_labels, released_labels
from unimoe.tokens.message import AudioPart, ImagePart, Message, Part, VideoPart
from unimoe.tokens.template import TURN_START, Piece, render
from unimoe.tokens.vocabulary import Vocabulary

LabelRule = Literal["released", "assistant"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One sequence on the host; None where it has no such media."""

    input_ids: Int64[Tensor, " seq"]
    labels: Int64[Tensor, " seq"] | None = None
    pixel_values: Float32[Tensor, "tiles 3 side side"] | None = None
    image_grid_thw: Int64[Tensor, "images 3"] | None = None
    """Per image (1, rows, columns) of tiles."""
    pixel_values_videos: Float32[Tensor, "tiles_videos 3 side side"] | None = None
    video_grid_thw: Int64[Tensor, "videos 3"] | None = None
    """Per video (frames, rows, columns)."""
    second_per_grid_ts: Float32[Tensor, " videos"] | None = None
    """Seconds from frame to frame."""
    audio_features: Float32[Tensor, "clips mel frames"] | None = None
    audio_grid_thw: Int64[Tensor, " audios"] | None = None
    """Clips per audio."""
    image_states: Float[Tensor, "tiles patches width"] | None = None
    """In place of pixel_values: what a frozen tower made of them, computed before."""
    video_states: Float[Tensor, "tiles_videos patches width"] | None = None
    """In place of pixel_values_videos."""
    audio_states: Float[Tensor, "clips steps audio_width"] | None = None
    """In place of audio_features."""
    token_counts: Mapping[str, int]
    """Tokens by modality: text (all that is no placeholder), image, video, audio."""


def encode_chat(
    messages: Sequence[Message],
    vocabulary: Vocabulary,
    config: OmniConfig,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
    add_generation_prompt: bool | None = None,
    with_labels: LabelRule | None = None,
    spells_answers: bool = False,
) -> Sample:
    """Read the media of a conversation and lay it out as one sequence.

    The sound track of a video follows it as an audio block, if the file has one, its part asks for
    it and the model hears.

    Args:
        messages: what was said; parts in the order the model shall see them.
        vocabulary: of the model's directory.
        config: of the model.
        limits: what is refused before it is decoded.
        add_generation_prompt: end with the opening of an answer. None: when no labels are asked.
        with_labels: mark the tokens to train on, by either rule of `labels`.
        spells_answers: what the assistant said is a token a letter, not a token a word.

    Raises:
        MediaError: a medium cannot be used.
        RequestError: the model has no encoder for a medium, the prompt is longer than the model
            takes, or labels are asked of a prompt that ends with an opened answer.
        CheckpointError: the chat template does not work.
    """
    if add_generation_prompt is None:
        add_generation_prompt = with_labels is None
    if add_generation_prompt and with_labels is not None:
        raise RequestError(
            f"with_labels={with_labels!r} and add_generation_prompt=True: the opened answer at the "
            "end holds nothing to train on; leave one of them out"
        )
    messages, media = _read_media(messages, config, limits)
    prompt = render(messages, vocabulary, add_generation_prompt=add_generation_prompt)
    if with_labels == "assistant" and not prompt.keeps_answers:
        raise RequestError(
            "the chat template rewrites answers, so it is unknown which of their words to train "
            "on; take a template that prints them whole"
        )
    tokens = _tokenised(prompt.pieces, vocabulary, spells_answers=spells_answers)
    tokens = _expanded(tokens, media, config)
    input_ids = torch.tensor(tokens.ids, dtype=torch.int64)
    counts = count_tokens(input_ids, config.special_tokens)
    if len(input_ids) > config.core.max_positions:
        by_modality = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise RequestError(
            f"the prompt has {len(input_ids)} tokens ({by_modality}), the model takes "
            f"{config.core.max_positions}; shorten it or give fewer or smaller media"
        )
    return Sample(
        input_ids=input_ids,
        labels=_labels(input_ids, tokens.is_answer, with_labels, vocabulary),
        pixel_values=_joined([image.pixel_values for image in media.images]),
        image_grid_thw=_stacked([image.grid_thw for image in media.images]),
        pixel_values_videos=_joined([video.pixel_values for video in media.videos]),
        video_grid_thw=_stacked([video.grid_thw for video in media.videos]),
        second_per_grid_ts=torch.tensor([video.seconds_per_grid for video in media.videos])
        if media.videos
        else None,
        audio_features=_joined([audio.features for audio in media.audios]),
        audio_grid_thw=_stacked([audio.num_clips for audio in media.audios]),
        token_counts=counts,
    )


class _Media(NamedTuple):
    """What the encoders get, by modality, in the order of the prompt."""

    images: list[ImageTiles]
    videos: list[VideoTiles]
    audios: list[AudioClips]


class _Tokens(NamedTuple):
    ids: list[int]
    is_answer: list[bool]


def _read_media(
    messages: Sequence[Message], config: OmniConfig, limits: MediaLimits
) -> tuple[list[Message], _Media]:
    """All media, and the messages with an audio part after every video that sounds."""
    media = _Media([], [], [])
    videos = iter(_read_videos(messages, config, limits))
    heard = []
    for turn in messages:
        content: list[Part] = []
        for part in turn.content:
            content.append(part)
            if isinstance(part, ImagePart):
                pixels = load_image(part.source, limits=limits)
                media.images.append(tile_image(pixels, _vision(config, "an image")))
            elif isinstance(part, AudioPart):
                waveform = load_audio(part.source, limits=limits)
                media.audios.append(log_mel_clips(waveform, _audio(config)))
            elif isinstance(part, VideoPart):
                video = next(videos)
                vision = _vision(config, "a video")
                media.videos.append(tile_video(video, vision, config.video.frame_side))
                if video.sound is not None:
                    media.audios.append(log_mel_clips(video.sound, _audio(config)))
                    sound = (video.sound.samples, video.sound.sample_rate_hz)
                    content.append(AudioPart(sound))
        heard.append(Message(turn.role, tuple(content)))
    return heard, media


def _read_videos(
    messages: Sequence[Message], config: OmniConfig, limits: MediaLimits
) -> list[Video]:
    """Every video; as soon as one sounds, the bound on frames beside audio holds for all."""
    parts = [part for turn in messages for part in turn.content]
    sources = [
        # Read once: a file object stands at its end afterwards.
        read_source(part.source, limits=limits).data
        if hasattr(part.source, "read")
        else part.source
        for part in parts
        if isinstance(part, VideoPart)
    ]
    hears = [
        part.with_sound and config.audio is not None
        for part in parts
        if isinstance(part, VideoPart)
    ]

    def read(index: int, has_audio: bool) -> Video:
        return load_video(
            sources[index],
            config.video,
            has_audio=has_audio,
            with_sound=hears[index],
            limits=limits,
        )

    has_audio = any(isinstance(part, AudioPart) for part in parts)
    videos = [read(index, has_audio) for index in range(len(sources))]
    if has_audio or all(video.sound is None for video in videos):
        return videos
    return [
        read(index, has_audio=True) if video.sound is None else video
        for index, video in enumerate(videos)
    ]


def _vision(config: OmniConfig, what: str) -> VisionConfig:
    if config.vision is None:
        raise RequestError(f"the prompt holds {what}, this checkpoint has no vision encoder")
    return config.vision


def _audio(config: OmniConfig) -> AudioConfig:
    if config.audio is None:
        raise RequestError("the prompt holds audio, this checkpoint has no audio encoder")
    return config.audio


def _tokenised(pieces: Sequence[Piece], vocabulary: Vocabulary, *, spells_answers: bool) -> _Tokens:
    tokens = _Tokens([], [])
    for piece in pieces:
        if piece.is_control:
            control_id = vocabulary.control_id(piece.text)
            assert control_id is not None  # pieces are cut where one was found
            ids = [control_id]
        elif piece.is_answer and spells_answers:
            ids = [token_id for letter in piece.text for token_id in vocabulary.encode(letter)]
        else:
            ids = vocabulary.encode(piece.text)
        tokens.ids.extend(ids)
        tokens.is_answer.extend([piece.is_answer] * len(ids))
    return tokens


def _expanded(tokens: _Tokens, media: _Media, config: OmniConfig) -> _Tokens:
    """One placeholder a medium becomes one a feature."""
    special = config.special_tokens
    tile_tokens = config.vision.tokens_per_tile if config.vision else 0
    clip_tokens = config.audio.queries_per_clip if config.audio else 0
    lengths = [
        (special.image_pad, "image", [len(i.pixel_values) * tile_tokens for i in media.images]),
        (special.video_pad, "video", [len(v.pixel_values) * tile_tokens for v in media.videos]),
        (special.audio_pad, "audio", [a.num_clips * clip_tokens for a in media.audios]),
    ]
    remaining = {}
    for pad, modality, medium_lengths in lengths:
        found = tokens.ids.count(pad) if pad is not None else 0
        if found != len(medium_lengths):
            raise RequestError(
                f"{len(medium_lengths)} {modality} parts, but the prompt has {found} {modality} "
                "placeholders: the chat template drops or doubles a part, or text with control "
                "tokens holds a placeholder of its own"
            )
        remaining[pad] = iter(medium_lengths)
    expanded = _Tokens([], [])
    for token_id, is_answer in zip(*tokens, strict=True):
        count = next(remaining[token_id]) if token_id in remaining else 1
        expanded.ids.extend([token_id] * count)
        expanded.is_answer.extend([is_answer] * count)
    return expanded


def _labels(
    input_ids: Int64[Tensor, " seq"],
    is_answer: list[bool],
    rule: LabelRule | None,
    vocabulary: Vocabulary,
) -> Int64[Tensor, " seq"] | None:
    if rule is None:
        return None
    if rule == "assistant":
        return assistant_labels(
            input_ids, torch.tensor(is_answer), special_tokens=vocabulary.special_tokens
        )
    turn_start = vocabulary.control_id(TURN_START)
    if turn_start is None:
        raise RequestError(
            f"released labels need {TURN_START}, which this tokenizer lacks; take 'assistant' ones"
        )
    role = vocabulary.encode("assistant")
    if len(role) != 1:
        raise RequestError(
            f"released labels count tokens and 'assistant' is {len(role)} tokens; need 1. "
            "Take 'assistant' labels"
        )
    return released_labels(input_ids, turn_start=turn_start, assistant=role[0])


def count_tokens(input_ids: Int64[Tensor, " seq"], special: SpecialTokens) -> dict[str, int]:
    """Tokens by modality: text (all that is no placeholder), image, video, audio."""
    pads = {"image": special.image_pad, "video": special.video_pad, "audio": special.audio_pad}
    counts = {
        modality: int((input_ids == pad).sum()) if pad is not None else 0
        for modality, pad in pads.items()
    }
    return {"text": len(input_ids) - sum(counts.values()), **counts}


def _joined(arrays: list[NDArray[np.float32]]) -> Tensor | None:
    return torch.from_numpy(np.concatenate(arrays)) if arrays else None


def _stacked(values: Sequence[tuple[int, int, int] | int]) -> Tensor | None:
    return torch.tensor(values) if values else None

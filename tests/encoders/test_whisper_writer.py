"""A tiny random Whisper writes."""

import dataclasses

import pytest
import torch
from torch import Tensor

from unimoe.config import AudioConfig, WriterConfig
from unimoe.encoders.audio import AudioEncoder
from unimoe.encoders.writer import (
    BEGINS_WORD,
    CONTINUES_WORD,
    NO_SPEECH,
    Writer,
    pieces_before_loop,
)
from unimoe.encoders.written_words import digits, written_tokens

PIECES = 30
CONFIG = AudioConfig(
    hidden_size=32,
    encoder_layers=2,
    decoder_layers=2,
    num_heads=4,
    ffn_width=64,
    num_mel_bins=16,
    max_source_positions=30,
    max_target_positions=20,
    vocab_size=1,
    queries_per_clip=20,
    context_seconds=0.1,
    max_clips=4,
    writer=WriterConfig(
        vocab_size=PIECES + 4,
        start=PIECES + 1,
        no_timestamps=PIECES + 2,
        end=PIECES,
        alignment_heads=((0, 1), (1, 3)),
        max_pieces=6,
        max_tokens_per_piece=2,
        num_silent_states=30,
    ),
)
TOWER_STEPS = CONFIG.max_source_positions


@pytest.fixture
def encoder() -> AudioEncoder:
    """Even pieces begin words; piece n is the core's token 2 n, and every third has another."""
    torch.manual_seed(0)
    encoder = AudioEncoder(CONFIG, hidden_size=48, vocab_size=64).eval()
    torch.nn.init.normal_(encoder.qformer.query_tokens)
    writer = encoder.writer
    assert writer is not None
    for parameter in (*encoder.tower.parameters(), *writer.decoder.parameters()):
        if parameter.dim() > 1:  # so that what is heard decides what is written
            torch.nn.init.normal_(parameter, std=0.4)
    with torch.no_grad():
        writer.decoder.embed_tokens.weight[PIECES] *= 2  # some transcripts end early
    torch.nn.init.normal_(writer.silence, std=0.1)
    numbers = torch.arange(PIECES)
    writer.kinds[:PIECES] = torch.where(numbers % 2 == 0, BEGINS_WORD, CONTINUES_WORD).float()
    second = torch.where(numbers % 3 == 0, numbers + 1, -1)
    writer.tokens[:PIECES] = digits(torch.stack([2 * numbers, second], dim=1))
    return encoder


def writer_of(encoder: AudioEncoder) -> Writer:
    assert encoder.writer is not None
    return encoder.writer


def clips(count: int) -> Tensor:
    return torch.randn(count, 16, 60, generator=torch.manual_seed(1))


@torch.inference_mode()
def greedy_without_memory(writer: Writer, states: Tensor) -> list[int]:
    """Transformers' forward over all pieces at every step, each silent state as often as it counts.

    1,470 steps of silence are 49 times 30.
    """
    heard = torch.cat([states, writer.silence.repeat(49, 1)])[None]
    settings = writer.settings
    ids = [settings.start, settings.no_timestamps]
    while len(ids) < settings.max_pieces + 2 and ids[-1] != settings.end:
        hidden = writer.decoder(torch.tensor([ids]), encoder_hidden_states=heard, use_cache=False)
        scores = hidden.last_hidden_state[0, -1] @ writer.decoder.embed_tokens.weight.T
        ids.append(int(scores[: settings.end + 1].argmax()))
    if ids[-1] != settings.end:
        return ids[2 : 2 + pieces_before_loop(ids[2:])]
    return ids[2:-1]


@torch.inference_mode()
def test_it_writes_what_a_forward_without_memory_writes(encoder: AudioEncoder) -> None:
    writer = writer_of(encoder)
    states = encoder.tower(clips(12)).last_hidden_state
    found = writer.transcribe(states)
    wanted = [greedy_without_memory(writer, own) for own in states]
    rows = zip(found.pieces.tolist(), found.num_pieces.tolist(), strict=True)
    texts = [row[: count - 1] for row, count in rows]
    assert texts == wanted
    assert len({len(text) for text in texts}) > 1  # some end sooner than others


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ([5, 5, 5, 5], 1),
        ([1, 2, 5, 5, 5], 3),
        ([5, 7, 8, 7, 8, 7], 3),
        ([1, 2, 3, 1, 2, 3, 1, 2], 3),
        ([1, 2, 3, 4], 4),
        ([5, 5, 1, 2], 4),
    ],
)
def test_a_loop_is_kept_once(pieces: list[int], kept: int) -> None:
    assert pieces_before_loop(pieces) == kept


@torch.inference_mode()
def test_clips_written_together_are_as_one_by_one(encoder: AudioEncoder) -> None:
    together = encoder.states(clips(7))
    alone = torch.cat([encoder.states(clip[None]) for clip in clips(7)])
    assert torch.equal(together[:, TOWER_STEPS:], alone[:, TOWER_STEPS:])
    assert torch.equal(together, encoder.states(clips(7)))


@torch.inference_mode()
def test_states_are_those_of_the_tower_and_a_row_for_every_query(encoder: AudioEncoder) -> None:
    silent = AudioEncoder(dataclasses.replace(CONFIG, writer=None), 48, 64).eval()
    silent.load_state_dict(
        {name: v for name, v in encoder.state_dict().items() if not name.startswith("writer.")}
    )
    states = encoder.states(clips(3))
    assert states.shape == (3, CONFIG.states_per_clip, 32)
    assert torch.equal(states[:, :TOWER_STEPS], silent.states(clips(3)))
    assert torch.equal(encoder.connect(states), silent.connect(silent.states(clips(3))))


@torch.inference_mode()
def test_a_written_place_carries_the_row_of_its_token_and_others_the_query(
    encoder: AudioEncoder,
) -> None:
    table = torch.randn(64, 48)
    states = encoder.states(clips(4)).half().float()  # as it is stored
    tokens = written_tokens(states[:, TOWER_STEPS:])
    read, connected = encoder.read(states, table), encoder.connect(states)
    is_written = tokens >= 0
    assert 0 < int(is_written.sum()) < tokens.numel()
    assert torch.equal(read[is_written], table[tokens[is_written]])
    assert torch.equal(read[~is_written], connected[~is_written])
    torch.testing.assert_close(
        encoder(clips(4), table), encoder.read(encoder.states(clips(4)), table)
    )


@torch.inference_mode()
def test_nothing_is_written_where_it_would_begin_with_a_remark(encoder: AudioEncoder) -> None:
    writer_of(encoder).kinds[:PIECES] = NO_SPEECH
    assert not encoder.states(clips(3))[:, TOWER_STEPS:].any()


@torch.inference_mode()
def test_a_remark_that_was_not_the_first_to_come_is_passed_over(encoder: AudioEncoder) -> None:
    writer = writer_of(encoder)
    states = encoder.tower(clips(12)).last_hidden_state
    before = writer.transcribe(states)
    long = int(before.num_pieces.argmax())
    first, second = before.pieces[long, :2].tolist()
    assert first != second
    writer.kinds[second] = NO_SPEECH
    after = writer.transcribe(states[long, None]).pieces[0].tolist()
    assert after[0] == first
    assert second not in after


@torch.inference_mode()
def test_a_new_writer_writes_nothing() -> None:
    encoder = AudioEncoder(CONFIG, hidden_size=48, vocab_size=64).eval()
    assert not encoder.states(clips(2))[:, TOWER_STEPS:].any()


@torch.inference_mode()
def test_nothing_stands_in_the_zeros_before_a_recording(encoder: AudioEncoder) -> None:
    features = clips(12)
    features[:, :, :30] = features.min() - 1
    written = written_tokens(encoder.states(features)[:, TOWER_STEPS:])
    # Steps 5 to 24 are the clip's own, and each has a query; 15 of them are left.
    assert (written[:, 10:] >= 0).any()
    assert not (written[:, : 20 - 15 - 5] >= 0).any()


def test_nothing_of_it_learns(encoder: AudioEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in writer_of(encoder).parameters())
    encoder(clips(1), torch.randn(64, 48)).sum().backward()
    assert encoder.qformer.query_tokens.grad.any()

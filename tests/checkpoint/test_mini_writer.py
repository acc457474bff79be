"""What Whisper's pieces are to the core."""

import dataclasses

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models.whisper import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperModel

from unimoe.checkpoint.mini import mini_config
from unimoe.checkpoint.mini_writer import writer_tensors
from unimoe.config import AudioConfig, WriterConfig
from unimoe.encoders.audio import AudioEncoder
from unimoe.encoders.writer import BEGINS_WORD, CONTINUES_WORD, NO_SPEECH, NOT_WRITTEN
from unimoe.encoders.written_words import written_tokens

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
PIECES = [*LETTERS, "re", "Ġgre", "en", "Ġ-", "een", "Ġ[", "Ġ20", "Ġgreen"]
END = len(PIECES)


def _pairs(*merged: str) -> Tokenizer:
    """Byte-level pairs that join these, in this order."""
    vocabulary = {piece: number for number, piece in enumerate([*LETTERS, *merged])}
    merges = [
        next(
            (m[:cut], m[cut:]) for cut in range(1, len(m)) if {m[:cut], m[cut:]} <= set(vocabulary)
        )
        for m in merged
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture(scope="module")
def config() -> AudioConfig:
    audio = mini_config().audio
    assert audio is not None
    assert audio.writer is not None
    writer = WriterConfig(
        vocab_size=END + 3,
        start=END + 1,
        no_timestamps=END + 2,
        end=END,
        alignment_heads=((0, 0),),
        max_pieces=6,
        max_tokens_per_piece=2,
        num_silent_states=4,
    )
    return dataclasses.replace(
        audio,
        hidden_size=16,
        encoder_layers=1,
        decoder_layers=1,
        num_heads=2,
        ffn_width=16,
        num_mel_bins=8,
        writer=writer,
    )


@pytest.fixture(scope="module")
def tensors(config: AudioConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    whisper = WhisperModel(
        WhisperConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            num_mel_bins=8,
            vocab_size=END + 3,
            pad_token_id=None,
            decoder_start_token_id=0,
        )
    )
    weights = {f"model.{name}": value.numpy() for name, value in whisper.state_dict().items()}
    pieces = {piece: number for number, piece in enumerate(PIECES)}
    writing = Tokenizer(models.BPE(pieces, []))
    writing.decoder = decoders.ByteLevel()
    core = _pairs("re", "en", "gre", "Ġgre", "Ġgreen")
    return writer_tensors(weights, writing, core, config)


def test_a_writer_takes_all_its_tensors(config: AudioConfig, tensors: dict) -> None:
    writer = AudioEncoder(config, hidden_size=16, vocab_size=300).writer
    assert writer is not None
    writer.load_state_dict(tensors, strict=True)


@pytest.mark.parametrize(
    ("piece", "kind", "core_pieces"),
    [
        ("Ġgreen", BEGINS_WORD, ["Ġgreen"]),
        ("en", CONTINUES_WORD, ["en"]),
        ("een", CONTINUES_WORD, ["e", "en"]),
        ("Ġ20", NOT_WRITTEN, []),  # three tokens where two are the most
        ("Ġ[", NO_SPEECH, []),
        ("Ġ-", NOT_WRITTEN, []),
        ("-", CONTINUES_WORD, ["-"]),
        ("=", NOT_WRITTEN, []),
        ("Ġ", NOT_WRITTEN, []),
        ("Ã", NOT_WRITTEN, []),  # half of a letter
    ],
)
def test_a_piece_is_the_tokens_of_its_string(
    tensors: dict, piece: str, kind: int, core_pieces: list[str]
) -> None:
    core = _pairs("re", "en", "gre", "Ġgre", "Ġgreen")
    number = PIECES.index(piece)
    assert int(tensors["kinds"][number]) == kind
    found = [token for token in written_tokens(tensors["tokens"][number]).tolist() if token >= 0]
    assert [core.id_to_token(token) for token in found] == core_pieces


def test_control_tokens_are_not_written(tensors: dict) -> None:
    assert tensors["kinds"][END:].tolist() == [NOT_WRITTEN] * 3

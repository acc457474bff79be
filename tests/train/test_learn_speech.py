import dataclasses

import numpy as np
import pytest
import torch
from heads.made_speakers import SMALL_CODEC, SMALL_TALKER
from safetensors.torch import load_file

from unimoe.data.manifest import read_manifest, write_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.errors import DataError
from unimoe.heads.timed_talker import TimedTalker
from unimoe.media.encode import encode_audio
from unimoe.nn.precision import mixed_precision
from unimoe.recipes.speech import nearest_voice, with_voice
from unimoe.train.learn_codec import LearningCodec, codec_evaluation, codec_objective
from unimoe.train.learn_talker import (
    TalkerBatches,
    paired_codes,
    spoken_codes,
    take_dense,
    talker_objective,
)
from unimoe.train.readings import (
    RandomReadings,
    Reading,
    loaded_batch,
    readings_of,
    voice_shares,
)

TEXTS = ("go on.", "well, yes.", "no.")


@pytest.fixture
def readings(tmp_path) -> list[Reading]:
    """Three sweeps, called sentences."""
    samples = []
    for number, text in enumerate(TEXTS):
        times = np.arange(12_000 + 3000 * number) / 24_000
        sound = 0.4 * np.sin(2 * np.pi * (200 + 300 * number + 500 * times) * times)
        path = tmp_path / f"{number}.flac"
        path.write_bytes(encode_audio((sound.astype(np.float32), 24_000), sample_rate_hz=24_000))
        samples.append(
            OmniSample(
                id=text,
                conversations=(Turn("user", text), Turn("assistant", "<audio>")),
                audios=(path.name,),
                answers=(text,),
                traits={"voice": "bob" if number else "ann"},
            )
        )
    write_manifest(tmp_path / "train.jsonl", samples)
    return readings_of(read_manifest(tmp_path / "train.jsonl"))


def _learner() -> LearningCodec:
    torch.manual_seed(0)
    return LearningCodec(SMALL_CODEC)


def test_a_batch_holds_recordings_as_they_are(readings):
    batch = loaded_batch(readings, 24_000)
    assert batch.lengths.tolist() == [12_000, 15_000, 18_000]
    assert batch.waveform.shape == (3, 18_000)
    assert float(batch.waveform[0, 12_000:].abs().max()) == 0
    assert batch.texts == TEXTS


def test_the_batch_of_a_step_is_always_the_same(readings):
    batches = RandomReadings(readings, 2, 24_000, seed=1)
    assert batches(5).texts == batches(5).texts
    assert len({batches(step).texts for step in range(20)}) > 3


def test_readings_of_a_voice_that_never_reads_are_refused(readings):
    manifest = read_manifest(readings[0].path.parent / "train.jsonl")
    assert [each.text for each in readings_of(manifest, {"ann"})] == ["go on."]
    with pytest.raises(DataError, match="no recording"):
        readings_of(manifest, {"carl"})


def test_rows_are_the_averages_of_what_falls_to_them():
    learner = _learner()
    learner.counts.fill_(50.0)
    learner.sums.normal_()
    counts, sums = learner.counts.clone(), learner.sums.clone()
    vectors, codes = torch.randn(4, 8), torch.tensor([3, 3, 7, 0])
    learner.follow(vectors, codes)
    for row in range(SMALL_CODEC.num_codes):
        own = vectors[codes == row]
        count, total = 0.99 * counts[row] + len(own), 0.99 * sums[row] + own.sum(0)
        torch.testing.assert_close(learner.codec.codebook[row], total / count)


def test_rows_nobody_falls_to_are_taken_anew():
    learner = _learner()
    vectors = torch.randn(6, 8)
    learner.follow(vectors, torch.zeros(6, dtype=torch.long))
    others = learner.codec.codebook[1:]
    assert all(any(torch.allclose(row, vector) for vector in vectors) for row in others)
    torch.testing.assert_close(learner.codec.codebook[0], vectors.mean(0))


def test_the_codec_learns_its_recordings(readings):
    learner = _learner().train()
    optimizer = torch.optim.AdamW(learner.parameters(), 3e-3)
    batch = loaded_batch(readings, 24_000)
    first = codec_evaluation(learner.eval(), batch)
    learner.train()
    for _ in range(50):
        codec_objective(learner, batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    last = codec_evaluation(learner.eval(), batch)
    assert last["mel"] < 0.8 * first["mel"]
    assert last["letter"] < 0.8 * first["letter"]


def test_codes_stay_when_the_decoder_learns_alone(readings):
    learner = _learner().train()
    learner.requires_grad_(False)
    learner.codec.decoder.requires_grad_(True)
    before = learner.codec.codebook.clone()
    loss = codec_objective(learner, loaded_batch(readings, 24_000))
    loss.total.backward()
    assert torch.equal(learner.codec.codebook, before)
    assert learner.codec.decoder.filters.weight.grad is not None


def test_evaluation_moves_no_row(readings):
    learner = _learner()
    learner.train()
    codec_objective(learner, loaded_batch(readings, 24_000))
    before = learner.codec.codebook.clone()
    codec_evaluation(learner.eval(), loaded_batch(readings, 24_000))
    assert torch.equal(learner.codec.codebook, before)


@pytest.fixture
def sentences(readings, tmp_path):
    learner = _learner().eval()
    learner.codec.codebook.normal_()
    return spoken_codes(readings, learner.codec, learner.aligner, tmp_path / "codes.safetensors")


def test_durations_of_a_sentence_add_up_to_its_codes(sentences, readings, tmp_path):
    found = list(sentences.sentences())
    assert [each.reading for each in found] == readings
    for each, samples in zip(found, (12_000, 15_000, 18_000), strict=True):
        assert len(each.codes) == samples // 600 == each.durations.sum()
        assert len(each.durations) == len(each.reading.text)
    assert sorted(load_file(tmp_path / "codes.safetensors")) == ["codes", "durations", "num_codes"]


def test_codes_are_computed_once_and_of_these_recordings(sentences, readings, tmp_path):
    learner = _learner().eval()  # of another codebook: it is not asked
    kept = tmp_path / "codes.safetensors"
    again = spoken_codes(readings, learner.codec, learner.aligner, kept)
    assert torch.equal(again.codes, sentences.codes)
    with pytest.raises(DataError, match="made anew"):
        spoken_codes(readings[:2], learner.codec, learner.aligner, kept)


def test_codes_of_another_codec_stand_beside_those_of_the_same_moments(sentences, readings):
    spoken = list(sentences.sentences())
    other = _learner().eval().codec
    other.codebook.normal_(generator=torch.Generator().manual_seed(1))
    others, own = paired_codes(spoken, other)
    assert torch.equal(own, sentences.codes)
    with mixed_precision("cpu"):  # the products that `paired_codes` has
        vectors = other.encoder(loaded_batch(readings, 24_000).waveform).float()
    rows = other.nearest_codes(vectors)
    cut = [row[: len(each.codes)] for row, each in zip(rows, spoken, strict=True)]
    assert torch.equal(others, torch.cat(cut))


def test_a_text_that_does_not_fit_its_sound_is_left_out_alone(readings, tmp_path):
    learner = _learner().eval()
    long = readings[0]._replace(text="far too many letters for half a second of sound.")
    found = spoken_codes(
        [readings[1], long, readings[2]], learner.codec, learner.aligner, tmp_path / "codes"
    )
    assert [each.reading for each in found.sentences()] == [readings[1], readings[2]]


def test_the_talker_learns_what_it_is_given(sentences):
    torch.manual_seed(0)
    talker = TimedTalker(SMALL_TALKER).train()
    optimizer = torch.optim.AdamW(talker.parameters(), 1e-2)
    batches = TalkerBatches(list(sentences.sentences()), SMALL_TALKER, 3, seed=0)
    losses = []
    for step in range(40):
        loss = talker_objective(talker, batches(step))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.parts["codes"])
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_mixture_begins_as_the_dense_talker(sentences):
    torch.manual_seed(0)
    one = dataclasses.replace(
        SMALL_TALKER, talker=dataclasses.replace(SMALL_TALKER.talker, num_experts=1)
    )
    dense, mixture = TimedTalker(one).eval(), TimedTalker(SMALL_TALKER).eval()
    take_dense(mixture, dict(dense.named_parameters()))
    batch = TalkerBatches(list(sentences.sentences()), SMALL_TALKER, 3, seed=0)(0)
    with torch.no_grad():
        wanted, found = (talker_objective(model, batch) for model in (dense, mixture))
    assert found.parts["codes"] == pytest.approx(wanted.parts["codes"], abs=2e-2)


def test_a_voice_of_few_recordings_is_drawn_by_the_root_of_their_number() -> None:
    shares = voice_shares(["many"] * 400 + ["few"] * 4)

    assert shares.sum() == pytest.approx(1)
    assert shares[400:].sum() == pytest.approx(2 / 22)
    assert shares[0] == pytest.approx(shares[400] / 10)


def test_a_new_voice_begins_as_that_to_which_its_clips_are_the_likeliest(sentences):
    def said_by(voice, shift):
        return [
            each._replace(reading=each.reading._replace(voice=voice), codes=each.codes // 2 + shift)
            for each in sentences.sentences()
        ]

    torch.manual_seed(0)
    talker = TimedTalker(SMALL_TALKER).train()
    optimizer = torch.optim.AdamW(talker.parameters(), 1e-2)
    half = SMALL_TALKER.talker.num_codes // 2
    batches = TalkerBatches([*said_by("ann", 0), *said_by("bob", half)], SMALL_TALKER, 6, seed=0)
    for step in range(30):
        talker_objective(talker, batches(step)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    clips = said_by("own", half)

    assert nearest_voice(talker, clips) == "bob"
    config = dataclasses.replace(SMALL_TALKER, voices=("ann", "bob", "own"))
    embeddings = with_voice(talker, config, "bob").talker.text_embedding.weight
    first = len(config.characters)
    assert torch.equal(embeddings[first + 2], embeddings[first + 1])
    assert not torch.equal(embeddings[first + 2], embeddings[first])

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from unimoe.checkpoint.weights import load_model
from unimoe.config import WriterConfig
from unimoe.data.manifest import read_manifest, write_manifest
from unimoe.data.sample import Box, OmniSample, Place, Turn
from unimoe.errors import DataError
from unimoe.media.encode import encode_audio
from unimoe.model.omni import OmniModel
from unimoe.tokens.conversation import messages_of
from unimoe.tokens.sequence import encode_chat
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train import features
from unimoe.train.batches import Told
from unimoe.train.features import PreparedSet, StateStore, prepare, prepared_folder
from unimoe.train.lock import held_lock
from unimoe.train.store import tower_stores


@pytest.fixture(scope="module")
def model(tiny_directory) -> OmniModel:
    return load_model(tiny_directory)


@pytest.fixture(scope="module")
def vocabulary(tiny_directory, model) -> Vocabulary:
    return Vocabulary.from_directory(tiny_directory, model.config.special_tokens)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six samples of three pictures and a sound; the fourth has no answer."""
    folder = tmp_path_factory.mktemp("set")
    for n in range(3):
        Image.new("RGB", (56, 56), (80 * n, 20, 30)).save(folder / f"{n}.png")
    wave = np.sin(np.arange(16_000) / 20).astype(np.float32)
    (folder / "tone.flac").write_bytes(encode_audio((wave, 16_000)))
    samples = []
    for n in range(6):
        words = (Turn("user", "<image><audio>What?"), Turn("assistant", f"number {n}"))
        samples.append(
            OmniSample(
                id=f"s{n}",
                conversations=words[:1] if n == 3 else words,
                images=(f"{n % 3}.png",),
                audios=("tone.flac",),
                task="count",
                places=(Place("red square", Box(0, 0, 0.5, 0.5)),) if n == 1 else (),
            )
        )
    write_manifest(folder / "train.jsonl", samples)
    return read_manifest(folder / "train.jsonl")


@pytest.fixture
def folder(tmp_path, model, vocabulary):
    return prepared_folder(tmp_path, model, vocabulary)


def rows_encoded(monkeypatch) -> list[int]:
    """Fills with the number of rows of each later call of a tower."""
    calls: list[int] = []
    states = StateStore.rows_of

    def counted(store, signals, encode):
        def told(chunk):
            calls.append(len(chunk))
            return encode(chunk)

        return states(store, signals, told)

    monkeypatch.setattr(StateStore, "rows_of", counted)
    return calls


def test_a_prepared_sample_is_the_sample_with_states_for_signals(
    folder, model, vocabulary, manifest
):
    (found,) = prepare({"set": manifest}, folder, model, vocabulary).values()
    assert (len(found), found.lengths) == (5, [len(s.sample.input_ids) for s in found])
    direct = encode_chat(
        messages_of(manifest[1], manifest.folder),
        vocabulary,
        model.config,
        with_labels="assistant",
    )
    sample, task, modalities, told = found[1]
    assert (task, modalities) == ("count", "image+audio")
    image_pad = model.config.special_tokens.image_pad
    first = direct.input_ids.tolist().index(image_pad)
    assert told == (Told([first], vocabulary.encode(" red square")),)
    assert not found[0].told
    assert sample.input_ids.equal(direct.input_ids)
    assert sample.labels.equal(direct.labels)
    assert sample.image_grid_thw.equal(direct.image_grid_thw)
    assert sample.audio_grid_thw.equal(direct.audio_grid_thw)
    assert sample.token_counts == direct.token_counts
    with torch.no_grad():
        seen, heard = (
            model.vision.states(direct.pixel_values),
            model.audio.states(direct.audio_features),
        )
    # float16 on disk: 11 bits of values up to about 5.
    torch.testing.assert_close(sample.image_states, seen, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sample.audio_states, heard, rtol=1e-3, atol=1e-3)


def test_a_spelt_sample_is_learned_letter_by_letter(folder, model, vocabulary, manifest):
    spelt = dataclasses.replace(manifest[0], is_spelt=True)
    write_manifest(manifest.folder / "spelt.jsonl", [spelt])
    sets = {"spelt": read_manifest(manifest.folder / "spelt.jsonl"), "set": manifest}
    of_letters, of_words = (
        found[0].sample.labels for found in prepare(sets, folder, model, vocabulary).values()
    )
    letters = of_letters[of_letters != -100].tolist()[:-1]
    assert [vocabulary.decode([token]) for token in letters] == list("number 0")
    assert len(letters) > (of_words != -100).sum() - 1


def test_a_signal_that_many_samples_share_is_encoded_once(
    folder, model, vocabulary, manifest, monkeypatch
):
    calls = rows_encoded(monkeypatch)
    prepare({"one": manifest, "two": manifest}, folder, model, vocabulary)
    assert sorted(calls) == [1, 3]


def test_unusable_samples_are_counted_with_their_reason(folder, model, vocabulary, manifest):
    (found,) = prepare({"set": manifest}, folder, model, vocabulary).values()
    assert dict(found.bad) == {"no turn of the assistant to learn from; give it an answer": 1}
    assert "left out: 1 x no turn of the assistant" in found.report()


def test_a_killed_preparation_goes_on_where_it_was(
    folder, model, vocabulary, manifest, monkeypatch
):
    monkeypatch.setattr(features, "SAMPLES_PER_CHUNK", 2)

    def die(progress):
        if progress.done == 4:
            raise KeyError("power")

    with pytest.raises(KeyError, match="power"):
        prepare({"set": manifest}, folder, model, vocabulary, on_progress=die)
    with folder.samples("set").open("a") as stream:
        stream.write('{"id": "s4", "ta')
    for name, half in (("vision.f16", b"abc"), ("vision.keys", b"0123456789")):
        with (folder.towers / name).open("ab") as stream:
            stream.write(half)
    with pytest.raises(DataError, match="4 of 6 samples are prepared; go on with it"):
        PreparedSet(folder, "set")
    calls, seen = rows_encoded(monkeypatch), []
    (found,) = prepare(
        {"set": manifest}, folder, model, vocabulary, on_progress=seen.append
    ).values()
    assert [progress.done for progress in seen] == [6]
    assert calls == []
    assert len(found) == 5


def test_a_set_that_changed_is_laid_out_anew_from_the_states_there_are(
    folder, model, vocabulary, manifest, tmp_path, monkeypatch
):
    prepare({"set": manifest}, folder, model, vocabulary)
    calls = rows_encoded(monkeypatch)
    write_manifest(manifest.folder / "less.jsonl", manifest[:2])
    less = read_manifest(manifest.folder / "less.jsonl")
    (found,) = prepare({"set": less}, folder, model, vocabulary).values()
    assert (len(found), calls) == (2, [])


def test_two_processes_do_not_prepare_in_one_folder(folder, model, vocabulary, manifest):
    folder.towers.mkdir(parents=True)
    with (
        held_lock(folder.towers / "vision.lock", DataError),
        pytest.raises(DataError, match="another process is writing here"),
    ):
        prepare({"set": manifest}, folder, model, vocabulary)


def test_two_processes_do_not_lay_out_one_set_in_turns(folder, model, vocabulary, manifest):
    prepare({"other": manifest}, folder, model, vocabulary)  # so that no state is new
    path = folder.samples("set")
    with (
        held_lock(path.with_suffix(".lock"), DataError),
        pytest.raises(DataError, match="another process is writing here"),
    ):
        prepare({"set": manifest}, folder, model, vocabulary)
    prepare({"set": manifest}, folder, model, vocabulary)
    with held_lock(path.with_suffix(".lock"), DataError):  # nothing is left to write
        assert len(prepare({"set": manifest}, folder, model, vocabulary)["set"]) == 5


def test_a_set_without_any_usable_sample_is_refused(folder, model, vocabulary, manifest):
    write_manifest(manifest.folder / "none.jsonl", [manifest[3]])
    none = read_manifest(manifest.folder / "none.jsonl")
    with pytest.raises(DataError, match="set: no usable sample of 1; 1 times: no turn"):
        prepare({"set": none}, folder, model, vocabulary)


def test_other_connectors_keep_states_and_samples_other_tilings_the_states(
    folder, model, vocabulary, tmp_path
):
    def keys(**changes):
        config = dataclasses.replace(
            model.config,
            **{
                part: dataclasses.replace(getattr(model.config, part), **fields)
                for part, fields in changes.items()
            },
        )
        other = OmniModel(config)
        other.vision.tower, other.audio.tower = model.vision.tower, model.audio.tower
        found = prepared_folder(tmp_path, other, vocabulary)
        return found.towers_key == folder.towers_key, found.samples_key == folder.samples_key

    assert keys(audio={"projector_layers": 2}) == (True, True)
    assert keys(vision={"pool_side": 1}) == (True, False)
    assert keys(vision={"layer_norm_eps": 1e-5}) == (False, False)


def test_a_writer_means_another_folder_and_rows_for_what_it_writes(model, vocabulary, tmp_path):
    writer = WriterConfig(
        vocab_size=40,
        start=38,
        no_timestamps=39,
        end=37,
        alignment_heads=((0, 1),),
        max_pieces=8,
        max_tokens_per_piece=2,
        num_silent_states=4,
    )
    audio = dataclasses.replace(model.config.audio, writer=writer)
    writing = OmniModel(dataclasses.replace(model.config, audio=audio))
    writing.vision, writing.audio.tower = model.vision, model.audio.tower
    silent, found = (prepared_folder(tmp_path, each, vocabulary) for each in (model, writing))
    assert found.towers_key != silent.towers_key
    writing.audio.writer.kinds.fill_(1)
    assert prepared_folder(tmp_path, writing, vocabulary).towers_key != found.towers_key
    clips = torch.randn(2, 80, 300)
    states = writing.audio.eval().states(clips)
    store = tower_stores(found)["audio"]
    store.rows_of(clips, lambda chunk: writing.audio.states(chunk))
    store.close()
    assert torch.equal(torch.from_numpy(store.mapped().copy()), states.half())


def test_other_tower_weights_mean_another_folder(folder, model, vocabulary, tmp_path):
    other = OmniModel(model.config)
    found = prepared_folder(tmp_path, other, vocabulary)
    assert found.towers_key != folder.towers_key


def test_states_that_are_no_numbers_are_never_kept(tmp_path):
    store = StateStore(tmp_path, "vision", (2, 3))
    store.begin_writing()
    with pytest.raises(DataError, match="no numbers"):
        store.rows_of(torch.ones(1, 4), lambda rows: torch.full((len(rows), 2, 3), torch.nan))
    with pytest.raises(DataError, match="too large for float16"):
        store.rows_of(torch.ones(1, 4), lambda rows: torch.full((len(rows), 2, 3), 1e6))
    store.close()
    assert len(StateStore(tmp_path, "vision", (2, 3))) == 0


def test_the_first_line_tells_which_manifest_was_prepared(folder, model, vocabulary, manifest):
    prepare({"set": manifest}, folder, model, vocabulary)
    header = json.loads(folder.samples("set").read_text().splitlines()[0])
    assert header["samples"] == 6


def test_what_is_known_needs_no_lock(tmp_path):
    signals, states = torch.ones(1, 4), torch.zeros(1, 2, 3)
    first, second = (StateStore(tmp_path, "vision", (2, 3)) for _ in range(2))
    assert first.rows_of(signals, lambda rows: states) == [0]
    reader = StateStore(tmp_path, "vision", (2, 3))
    assert reader.rows_of(signals, lambda rows: states) == [0]  # while the first one holds it
    with pytest.raises(DataError, match="another process is writing"):
        second.rows_of(2 * signals, lambda rows: states)
    first.close()


def test_a_digit_is_told_without_the_blank_before_it(vocabulary):
    blank, digit = vocabulary.encode(" "), vocabulary.encode("7")
    assert vocabulary.encode(" 7") == [*blank, *digit]
    assert features._tokens_told("7", vocabulary) == digit
    assert features._tokens_told("red square", vocabulary) == vocabulary.encode(" red square")

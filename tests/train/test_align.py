"""What is seen and heard aligned with word embeddings."""

import itertools
from dataclasses import replace

import pytest
import torch

from unimoe.config import OmniConfig
from unimoe.errors import TrainingError
from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny import tiny_config
from unimoe.tokens.sequence import Sample
from unimoe.train.align import WordAlignment, let_speak, words_said
from unimoe.train.batches import Told, TrainBatch, TrainSample, train_batch

AUDIO_PAD, END, START = 475, 468, 473
WORDS = [40, 41, 42]


@pytest.fixture
def model() -> OmniModel:
    """With a table whose rows are far apart: an embedding at one of them is sure of its word."""
    torch.manual_seed(3)
    model = OmniModel(speaking_config())
    torch.nn.init.normal_(model.core.embed_tokens.weight)
    model.core.requires_grad_(False)
    assert model.vision is not None
    assert model.audio is not None
    for encoder in (model.vision, model.audio):
        assert encoder.words is not None
        encoder.words.limit_to([*WORDS, AUDIO_PAD])
    return model


def speaking_config() -> OmniConfig:
    config = tiny_config()
    assert config.vision is not None
    assert config.audio is not None
    return replace(
        config,
        vision=replace(config.vision, speaks_words=True),
        audio=replace(config.audio, speaks_words=True),
    )


def heard(words: list[int], clips: int = 1) -> TrainSample:
    """An audio of some clips, and the words as the answer."""
    special = tiny_config().special_tokens
    assert (special.audio_pad, special.end_of_turn, special.audio_start) == (AUDIO_PAD, END, START)
    ids = torch.tensor([START, *[AUDIO_PAD] * 20 * clips, 7, *words, END])
    labels = torch.full_like(ids, -100)
    labels[-len(words) - 1 :] = ids[-len(words) - 1 :]
    sample = Sample(
        input_ids=ids,
        labels=labels,
        audio_states=torch.randn(clips, 150, 32),
        audio_grid_thw=torch.tensor([clips]),
        token_counts={},
    )
    return TrainSample(sample, "asr", "audio")


def rows(*of: list[TrainSample]) -> TrainBatch:
    return train_batch(of, 96, tiny_config())


def every_alignment(scores: torch.Tensor, targets: list[int], blank: int) -> torch.Tensor:
    """Minus the log of the summed probabilities of all ways to say the targets, one by one."""
    total = []
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        collapsed = [c for c, _ in itertools.groupby(path) if c != blank]
        if collapsed == targets:
            total.append(scores[range(len(path)), path].sum())
    return -torch.logsumexp(torch.stack(total), 0)


@torch.no_grad()
def test_the_loss_is_the_sum_over_all_alignments(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.audio is not None
    short = torch.randn(1, 20, 64)
    short[:, 4:] = model.core.embed_tokens.weight[AUDIO_PAD]  # nothing new, and sure of it
    monkeypatch.setattr(model.audio, "connect", lambda states: short)
    loss = WordAlignment()(model, rows([heard([41, 40])]), with_z=False)
    assert model.audio.words is not None
    scores = model.audio.words.scores(short[0], model.core.embed_tokens.weight).log_softmax(-1)
    silence = scores[4:, 3].sum()  # classes: 40, 41, 42, blank
    expected = every_alignment(scores[:4], [1, 0], blank=3) - silence
    torch.testing.assert_close(loss.text_sum, expected, rtol=1e-3, atol=1e-3)


def test_embeddings_of_the_words_cost_less_than_those_of_others(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.audio is not None
    table = model.core.embed_tokens.weight
    said = table[[AUDIO_PAD, 41, AUDIO_PAD, 42, *[AUDIO_PAD] * 16]][None]
    monkeypatch.setattr(model.audio, "connect", lambda states: said)
    objective = WordAlignment()
    right = objective(model, rows([heard([41, 42])]), with_z=False).text_sum
    wrong = objective(model, rows([heard([42, 41])]), with_z=False).text_sum
    assert right < 0.5 * wrong


@torch.no_grad()
def test_packing_changes_no_loss_and_counts_the_end_of_the_turn(model: OmniModel) -> None:
    objective = WordAlignment()
    first, second = heard([41, 40]), heard([42], clips=2)
    together = objective(model, rows([first, second]), with_z=False)
    apart = [objective(model, rows([one]), with_z=False).text_sum for one in (first, second)]
    torch.testing.assert_close(together.text_sum, sum(apart))
    assert together.token_losses.shape == (5,)
    torch.testing.assert_close(together.token_losses.sum(), together.text_sum.detach())


def test_the_connector_learns_and_the_core_is_not_run(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*of: object, **more: object) -> None:
        raise AssertionError("the core was run")

    monkeypatch.setattr(model.core, "forward", fail)
    WordAlignment()(model, rows([heard([41, 40])]), with_z=False).text_sum.backward()
    assert model.audio is not None
    gradient = model.audio.qformer.projector.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert model.core.embed_tokens.weight.grad is None


def test_a_token_outside_the_vocabulary_is_named_as_the_fault(model: OmniModel) -> None:
    with pytest.raises(TrainingError, match="words lack"):
        WordAlignment()(model, rows([heard([43])]), with_z=False)


def test_an_encoder_that_speaks_no_words_cannot_be_aligned() -> None:
    with pytest.raises(TrainingError, match="speaks_words"):
        WordAlignment()(OmniModel(tiny_config()), rows([heard([42])]), with_z=False)


def test_an_encoder_says_what_is_told_what_it_knew_and_the_placeholder(model: OmniModel) -> None:
    class One:
        lengths = (24,)

        def __getitem__(self, index: int, /) -> TrainSample:
            return shown(Told([1], [44]))

    assert model.vision is not None
    words = model.vision.words
    assert words is not None
    let_speak(words, [One()], model.config.special_tokens)
    assert words.token_ids.tolist() == [44, AUDIO_PAD]
    let_speak(words, [One()], model.config.special_tokens, known=[41])
    assert words.token_ids.tolist() == [41, 44, AUDIO_PAD]


def test_rows_without_audio_are_refused(model: OmniModel) -> None:
    silent = heard([41])
    batch = rows([silent])
    batch = batch._replace(batch=replace(batch.batch, audio_states=None))
    with pytest.raises(TrainingError, match="pictures, or of sounds"):
        WordAlignment()(model, batch, with_z=False)


def shown(*told: Told) -> TrainSample:
    """A picture of four tokens, and an answer of three."""
    special = tiny_config().special_tokens
    assert special.image_pad is not None
    ids = torch.tensor([7, *[special.image_pad] * 4, 7, 33, 34, END])
    labels = torch.full_like(ids, -100)
    labels[-3:] = ids[-3:]
    sample = Sample(
        input_ids=ids,
        labels=labels,
        image_states=torch.randn(1, 16, 32),
        image_grid_thw=torch.tensor([[1, 1, 1]]),
        token_counts={},
    )
    return TrainSample(sample, "naming", "image", told)


@torch.no_grad()
def test_what_is_told_of_a_place_costs_its_distance_from_what_the_tokens_there_say(
    model: OmniModel,
) -> None:
    assert model.vision is not None
    sample = shown(Told([1, 2], [40, 42]), Told([2], [41]))  # of tokens 0 and 1, of token 1 alone
    found = WordAlignment()(model, rows([sample]), with_z=False)
    embeddings = model.vision.connect(sample.sample.image_states)[0]
    wanted = torch.zeros(4, 4)  # classes: 40, 41, 42, blank
    wanted[0] = torch.tensor([1 / 2, 0, 1 / 2, 0])
    wanted[1] = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0])
    wanted[2:] = torch.tensor([0, 0, 0, 1.0])
    assert model.vision.words is not None
    got = model.vision.words.scores(embeddings, model.core.embed_tokens.weight).log_softmax(-1)
    divergence = sum(
        float(w * (w.log() - g)) * (0.3 if at >= 2 else 1)
        for at, row in enumerate(wanted)
        for w, g in zip(row, got[at], strict=True)
        if w > 0
    )
    torch.testing.assert_close(found.text_sum.item(), divergence, rtol=1e-4, atol=1e-4)
    assert found.token_losses.shape == (3,)


@torch.no_grad()
def test_what_is_told_at_points_is_said_once_each_in_order_by_any_token_near(
    model: OmniModel,
) -> None:
    two = shown(Told([1, 2], [40], is_once=True), Told([2, 3, 4], [42], is_once=True))
    alone = shown(Told([4], [41], is_once=True))
    found = WordAlignment()(model, rows([two, alone]), with_z=False)

    expected = 0.0
    for sample, classes, near in ((two, [0, 2], [[0, 1], [1, 2, 3]]), (alone, [1], [[3]])):
        assert model.vision is not None
        assert model.vision.words is not None
        embeddings = model.vision.connect(sample.sample.image_states)[0]
        got = model.vision.words.scores(embeddings, model.core.embed_tokens.weight).log_softmax(-1)
        ways = []
        for tokens in itertools.product(*near):
            if list(tokens) == sorted(set(tokens)):
                says = [3, 3, 3, 3]  # the blank
                for token, word in zip(tokens, classes, strict=True):
                    says[token] = word
                ways.append(got[range(4), says].sum())
        expected -= float(torch.logsumexp(torch.stack(ways), 0))
    torch.testing.assert_close(found.text_sum.item(), expected, rtol=1e-4, atol=1e-4)


def test_points_closer_together_than_tokens_cost_nothing_and_teach_nothing(
    model: OmniModel,
) -> None:
    crowded = shown(*[Told([1], [40], is_once=True)] * 2)
    loss = WordAlignment()(model, rows([crowded]), with_z=False)
    loss.text_sum.backward()
    assert model.vision is not None
    assert loss.text_sum.item() == 0
    found = [p.grad for p in model.vision.aligner.parameters() if p.grad is not None]
    assert found
    assert all(bool((gradient == 0).all()) for gradient in found)


@pytest.mark.parametrize("other", [Told([2], [41]), Told([2], [41, 42], is_once=True)])
def test_what_is_told_at_points_is_a_token_each_and_nothing_else(
    model: OmniModel, other: Told
) -> None:
    with pytest.raises(TrainingError, match="tell a token of each point"):
        WordAlignment()(model, rows([shown(Told([1], [40], is_once=True), other)]), with_z=False)


def test_a_picture_of_which_nothing_is_told_costs_nothing(model: OmniModel) -> None:
    loss = WordAlignment()(model, rows([shown()]), with_z=False)
    assert (loss.text_sum, loss.token_losses.shape) == (0, (3,))


def test_the_vocabulary_is_what_is_told_or_else_all_that_answers_hold() -> None:
    class Four:
        lengths = (24, 25, 9, 9)

        def __getitem__(self, index: int, /) -> TrainSample:
            if index == 2:
                return shown(Told([1], [44]))
            return heard(WORDS[: index + 1]) if index < 2 else shown()

    assert words_said([Four()]) == {40, 41, 44, END}


def test_states_are_masked_in_runs_and_only_while_learning(
    model: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.audio is not None
    seen: list[torch.Tensor] = []
    connect = model.audio.connect
    monkeypatch.setattr(
        model.audio, "connect", lambda states: seen.append(states) or connect(states)
    )
    objective, batch = WordAlignment(), rows([heard([41, 40])])
    assert batch.batch.audio_states is not None
    with torch.no_grad():
        objective(model, batch, with_z=False)
    torch.testing.assert_close(seen[0], batch.batch.audio_states)
    objective(model, batch, with_z=False)
    is_masked = (seen[1] == 0).all(-1)[0]
    assert 0 < is_masked.sum() < 75
    runs = is_masked[:148].view(-1, 4)
    assert bool((runs.all(1) == runs.any(1)).all())


def test_half_of_the_pictures_are_recoloured_and_keep_their_strokes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(5)
    config = speaking_config()
    assert config.vision is not None
    vision = replace(config.vision, aligner_layers=1, detail_side=2)
    model = OmniModel(replace(config, vision=vision))
    assert model.vision is not None
    assert model.vision.words is not None
    model.vision.words.limit_to([*WORDS, AUDIO_PAD])
    seen: list[torch.Tensor] = []
    connect = model.vision.connect
    monkeypatch.setattr(
        model.vision, "connect", lambda states: seen.append(states) or connect(states)
    )
    samples = []
    for _ in range(32):
        sample = shown(Told([1], [40]))
        states = torch.randn(1, 16, 32 + 3 * 2 * 2)
        samples.append(sample._replace(sample=replace(sample.sample, image_states=states)))
    WordAlignment()(model, rows(*[samples[n : n + 8] for n in (0, 8, 16, 24)]), with_z=False)

    kept = 0
    for sample, used in zip(samples, seen[0], strict=True):
        assert sample.sample.image_states is not None
        given = sample.sample.image_states[0, :, 32:].unflatten(1, (3, 4)).movedim(1, 0).flatten(1)
        got = used[:, 32:].unflatten(1, (3, 4)).movedim(1, 0).flatten(1)
        if torch.equal(given, got):
            kept += 1
            continue
        # Each channel is one of those given, its mean and spread aside.
        same = torch.corrcoef(torch.cat([given, got]))[3:, :3].abs() > 0.999
        assert same.sum(0).tolist() == same.sum(1).tolist() == [1, 1, 1]
    assert 0 < kept < 32

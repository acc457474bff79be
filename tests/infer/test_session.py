"""Chat and stream say the same; what a checkpoint cannot do is said plainly."""

import dataclasses
import inspect
import shutil
from typing import get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from unimoe.errors import CheckpointError, MediaError, RequestError
from unimoe.infer.answering import TextDelta
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import ChatRequest, OmniInference, media_parts
from unimoe.infer.usage import Usage
from unimoe.tokens.message import AudioPart, ImagePart, VideoPart, message

PHOTO = Image.new("RGB", (80, 60), "teal")
HUM = (np.sin(np.arange(16_000) / 20).astype(np.float32), 16_000)


@pytest.fixture(scope="module")
def session(tiny_directory):
    return OmniInference(tiny_directory)


def test_an_answer_unpacks_as_text_speech_image(session):
    answer = session.chat("What do you see?", image=PHOTO, max_new_tokens=5)
    text, speech, image = answer
    assert text == answer.text != ""
    assert speech is None
    assert image is None
    assert answer.usage.new_tokens <= 5


def test_the_pieces_of_a_stream_are_the_answer(session):
    *pieces, usage = session.stream("What do you hear?", audio=HUM, max_new_tokens=20)
    answer = session.chat("What do you hear?", audio=HUM, max_new_tokens=20)
    assert all(isinstance(piece, TextDelta) and piece.text for piece in pieces)
    assert "".join(piece.text for piece in pieces) == answer.text
    assert isinstance(usage, Usage)
    assert usage.new_tokens == answer.usage.new_tokens


def test_media_are_counted_in_the_prompt(session):
    answer = session.chat("Compare.", image=[PHOTO, PHOTO], audio=HUM, max_new_tokens=1)
    counts = answer.usage.prompt_tokens
    per_image = session.chat("Compare.", image=PHOTO, max_new_tokens=1).usage.prompt_tokens["image"]
    assert counts["image"] == 2 * per_image > 0
    assert counts["audio"] == 20  # one clip of three seconds
    assert counts["video"] == 0


def test_the_media_change_the_answer(session):
    red = session.chat("?", image=Image.new("RGB", (56, 56), "red"), max_new_tokens=24)
    noise = np.random.default_rng(0).integers(0, 256, (56, 56, 3), np.uint8)
    assert session.chat("?", image=noise, max_new_tokens=24).text != red.text


def test_a_closed_stream_can_be_asked_again_with_the_same_outcome(session):
    whole = session.chat("Tell me more.", max_new_tokens=30).text
    stream = session.stream("Tell me more.", max_new_tokens=30)
    begun = next(stream).text + next(stream).text
    stream.close()
    assert whole.startswith(begun)
    assert list(stream) == []
    assert session.chat("Tell me more.", max_new_tokens=30).text == whole


def test_the_told_seed_repeats_a_sample(session):
    first = session.chat("Hello", temperature=1.2, max_new_tokens=20)
    again = session.chat("Hello", temperature=1.2, max_new_tokens=20, seed=first.usage.seed)
    assert again.text == first.text


def test_a_stop_string_ends_the_answer_and_is_not_in_it(session):
    whole = session.chat("Hello", max_new_tokens=40).text
    stop = whole[7:10]
    answer = session.chat("Hello", max_new_tokens=40, stop=stop)
    assert answer.text == whole[: whole.index(stop)]
    assert answer.usage.finish_reason == "stop"
    assert answer.usage.new_tokens < 40


def test_a_stop_token_ends_the_answer_and_is_not_in_it(session):
    answer = session.chat("Hello", max_new_tokens=10, stop_tokens=range(480))
    assert answer.text == ""
    assert answer.usage.finish_reason == "stop"
    assert answer.usage.new_tokens == 1


def test_the_conversation_so_far_is_part_of_the_prompt(session):
    history = [
        message("system", "Be brief."),
        message("user", ImagePart(PHOTO), "What is it?"),
        message("assistant", "A teal area."),
    ]
    alone = session.chat("And now?", max_new_tokens=8)
    answer = session.chat("And now?", messages=history, max_new_tokens=8)
    assert answer.usage.prompt_tokens["image"] > 0
    assert answer.usage.prompt_tokens["text"] > alone.usage.prompt_tokens["text"]


def test_whole_messages_need_no_prompt(session):
    asked = session.chat("Hello", max_new_tokens=8)
    assert session.chat(messages=[message("user", "Hello")], max_new_tokens=8).text == asked.text


@pytest.mark.parametrize("messages", [(), (message("user", "Hi"), message("assistant", "Yes"))])
def test_nothing_to_answer_is_refused(session, messages):
    with pytest.raises(RequestError, match="nothing to answer"):
        session.chat(messages=messages)


@pytest.mark.parametrize("form", ["speech", "image"])
def test_a_head_that_is_not_there_is_refused_before_any_work(session, form):
    with pytest.raises(RequestError, match=f"this checkpoint has no {form} head"):
        session.stream("Hello", output_form=("text", form))


def test_a_head_that_was_left_aside_is_not_denied(tiny_directory, tmp_path):
    directory = shutil.copytree(tiny_directory, tmp_path / "omni")
    tensors = load_file(directory / "model.safetensors")
    tensors["speech_generator.in_fnn.weight"] = torch.ones(3, 4)
    save_file(tensors, directory / "model.safetensors")
    session = OmniInference(directory)
    with pytest.raises(RequestError, match="has a speech head, which cannot be run yet"):
        session.stream("Hello", output_form=("text", "speech"))
    with pytest.raises(RequestError, match="has no image head"):
        session.stream("Hello", output_form="image")


@pytest.mark.parametrize("forms", [("smell",), (), ("txt", "text")])
def test_an_unknown_output_form_is_refused(session, forms):
    with pytest.raises(RequestError, match="output_form"):
        session.chat("Hello", output_form=forms)


def test_an_impossible_option_is_refused_when_asked_not_when_read(session):
    with pytest.raises(RequestError, match="max_new_tokens is 0"):
        session.stream("Hello", max_new_tokens=0)
    with pytest.raises(RequestError, match=r"max_new_tokens=5000 makes .* at most"):
        session.stream("Hello", max_new_tokens=5000)


def test_without_a_name_mini_is_put_together(monkeypatch, tiny_directory):
    monkeypatch.setattr("unimoe.infer.session.mini_directory", lambda: tiny_directory)
    assert OmniInference().model.config.core.num_layers == 3


def test_a_file_is_no_checkpoint_directory(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="a directory with a tokenizer"):
        OmniInference(path)


def test_a_missing_tokenizer_is_told_before_the_weights_are_read(tiny_directory, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny_directory / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        OmniInference(tmp_path)


def test_a_cpu_computes_in_float32_unless_told_otherwise(tiny_directory):
    assert OmniInference(tiny_directory, device_map="cpu").model.dtype == torch.float32
    half = OmniInference(tiny_directory, device_map="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert half.chat("Hello", image=PHOTO, audio=HUM, max_new_tokens=3).usage.new_tokens <= 3


def test_one_source_or_several_become_parts_in_the_order_image_audio_video():
    parts = media_parts(image="a.png", audio=["b.wav", HUM], video=("c.mp4",))
    assert [type(part) for part in parts] == [ImagePart, AudioPart, AudioPart, VideoPart]
    assert [part.source for part in media_parts(audio=HUM)] == [HUM]


@pytest.mark.parametrize("rate", [16_000, 16_000.0, np.int64(16_000), np.float32(16_000)])
def test_samples_and_any_number_are_one_sound(session, rate):
    samples, _ = HUM
    expected = session.chat("?", audio=HUM, max_new_tokens=4).text
    assert len(media_parts(audio=(samples, rate))) == 1
    assert session.chat("?", audio=(samples, rate), max_new_tokens=4).text == expected
    assert session.chat("?", audio=(samples.tolist(), rate), max_new_tokens=4).text == expected


@pytest.mark.parametrize("sound", [("a.wav", 16_000), ([], 16_000), ([[1.0], [1.0, 2.0]], 16_000)])
def test_a_number_beside_no_samples_is_refused_as_a_sound(session, sound):
    with pytest.raises(MediaError, match="samples"):
        session.chat("?", audio=sound)


def test_chat_stream_and_sampling_options_agree_on_names_types_and_defaults():
    stream = inspect.signature(OmniInference.stream).parameters
    beside = {name: p.annotation for name, p in stream.items() if p.kind is p.KEYWORD_ONLY}
    assert get_type_hints(ChatRequest) == beside
    for field in dataclasses.fields(SamplingOptions):
        assert stream[field.name].default == field.default

"""What somebody does in the first hour: make a model, ask it about files, convert it, go on."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import unimoe
from tests.media.made_media import encode_video, tone, wav
from unimoe import cli

UNIMOE = [sys.executable, "-c", "from unimoe.cli import main; raise SystemExit(main())"]


@pytest.fixture
def files(tmp_path):
    """A picture, a sound of two seconds, and a video of three seconds that has a sound track."""
    Image.linear_gradient("L").resize((160, 90)).convert("RGB").save(tmp_path / "picture.jpg")
    hum = tone(2.0, 16_000)
    (tmp_path / "sound.wav").write_bytes(wav((hum * 20_000).astype(np.int16), 16_000))
    clip = encode_video(num_frames=30, rate_fps=10, sound=tone(2.5, 16_000))
    (tmp_path / "video.mp4").write_bytes(clip)
    return tmp_path


def answer(capsys, *words):
    """The JSON answer of `unimoe chat`."""
    assert cli.main(["chat", "--json", *map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_new_model_answers_about_a_picture_a_sound_and_a_video(files, capsys):
    assert cli.main(["tiny", str(files / "model")]) == 0
    media = ["--image", files / "picture.jpg", "--audio", files / "sound.wav"]
    media += ["--video", files / "video.mp4"]
    words = ["--model", files / "model", *media, "--max-new-tokens", 16, "What happens?"]
    first = answer(capsys, *words)
    counts = first["usage"]["prompt_tokens"]
    assert min(counts.values()) > 0
    assert counts["audio"] == 40  # the sound, and the sound track of the video
    assert 0 < first["usage"]["experts_per_token"] <= 4
    assert answer(capsys, *words)["text"] == first["text"]

    assert cli.main(["chat", *map(str, words)]) == 0
    assert capsys.readouterr().out == first["text"] + "\n"

    session = unimoe.OmniInference(files / "model")
    same = session.chat(
        "What happens?",
        image=Image.open(files / "picture.jpg"),
        audio=(files / "sound.wav").read_bytes(),
        video=str(files / "video.mp4"),
        max_new_tokens=16,
    )
    assert same.text == first["text"]


def test_a_model_answers_the_same_after_conversion_there_and_back(files, capsys):
    ours, released, back = (str(files / name) for name in ("ours", "released", "back"))
    assert cli.main(["tiny", ours, "--rule", "released"]) == 0
    assert cli.main(["convert", ours, released, "--to", "released"]) == 0
    assert cli.main(["convert", released, back, "--to", "unimoe"]) == 0
    question = ["--image", files / "picture.jpg", "--max-new-tokens", 24, "What do you see?"]
    answers = [answer(capsys, "--model", model, *question) for model in (ours, released, back)]
    assert answers[0]["text"] == answers[1]["text"] == answers[2]["text"]
    assert len(answers[0]["text"]) > 10
    weights = [(files / name / "model.safetensors").read_bytes() for name in ("ours", "back")]
    assert weights[0] == weights[1]


def test_a_model_of_the_paper_is_not_forced_into_the_released_form(files, tiny_directory, capsys):
    assert cli.main(["convert", str(tiny_directory), str(files / "out"), "--to", "released"]) == 1
    assert "the released dialect cannot express" in capsys.readouterr().err


def test_a_conversation_through_a_pipe(files, tiny_directory, capsys):
    script = f"/image {files / 'picture.jpg'}\nWhat is it?\nAnd the colours?\n/exit\n"
    options = ["chat", "--model", str(tiny_directory), "--max-new-tokens", "12"]
    done = subprocess.run(
        [*UNIMOE, *options],
        input=script.encode(),
        capture_output=True,
        timeout=120,
        check=True,
        cwd=files,
    )
    bills = done.stderr.decode().splitlines()
    assert len(bills) == 2
    assert "24 image" in bills[0]
    assert "24 image" in bills[1]  # the picture is still part of what was said
    first = answer(
        capsys,
        *options[1:],
        "--image",
        files / "picture.jpg",
        "--max-new-tokens",
        12,
        "What is it?",
    )
    assert done.stdout.decode().startswith(first["text"] + "\n")


def test_a_reader_who_leaves_early_ends_the_command_quietly(tiny_directory):
    """As in `unimoe chat ... | head -c 1`."""
    options = ["chat", "--model", str(tiny_directory), "Hello", "--max-new-tokens", "200"]
    command = subprocess.Popen([*UNIMOE, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.read(1)
    command.stdout.close()
    errors = command.stderr.read().decode()
    command.wait(timeout=120)
    command.stderr.close()
    assert "Traceback" not in errors

from pathlib import Path

import pytest

from unimoe.data import OmniSample, Turn
from unimoe.errors import DataError
from unimoe.tokens.conversation import messages_of
from unimoe.tokens.message import AudioPart, ImagePart, TextPart, VideoPart


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside.png").write_bytes(b"secret")
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for name in ("images/a.webp", "images/b.webp", "c.flac", "d.mp4"):
        (folder / name).write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    return folder


def image_sample(path: str) -> OmniSample:
    return OmniSample(id="7", conversations=(Turn("user", "<image>"),), images=(path,))


def test_media_stand_where_the_words_place_them(folder: Path) -> None:
    sample = OmniSample(
        id="1",
        conversations=(
            Turn("system", "Be brief."),
            Turn("user", "<image>\nand <audio><image> now?"),
            Turn("assistant", "Yes."),
            Turn("user", "<video>"),
        ),
        images=("images/a.webp", "images/b.webp"),
        audios=("c.flac",),
        videos=("d.mp4",),
    )

    messages = messages_of(sample, folder)

    found = [
        part.text if isinstance(part, TextPart) else (type(part), part.source.name)
        for message in messages
        for part in message.content
    ]
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert found == [
        "Be brief.",
        (ImagePart, "a.webp"),
        "\nand ",
        (AudioPart, "c.flac"),
        (ImagePart, "b.webp"),
        " now?",
        "Yes.",
        (VideoPart, "d.mp4"),
    ]


@pytest.mark.parametrize(
    "path", ["../outside.png", "images/../../outside.png", "/etc/passwd", "link.png", ".."]
)
def test_a_path_out_of_the_folder_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(DataError, match=r"sample '7': .*leads out of"):
        messages_of(image_sample(path), folder)


@pytest.mark.parametrize("path", ["https://x.org/a.png", "file:///etc/passwd", "data:image/png,x"])
def test_an_address_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(DataError, match="an address; media are files"):
        messages_of(image_sample(path), folder)


@pytest.mark.parametrize("path", ["images", "gone.png", "images/a\0.webp", "x" * 5000])
def test_what_is_no_file_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(DataError, match=r"no such file|no path"):
        messages_of(image_sample(path), folder)


def test_words_that_spell_control_tokens_stay_words(folder: Path) -> None:
    sample = OmniSample(id="1", conversations=(Turn("user", "<|im_end|>"),))

    assert messages_of(sample, folder)[0].content == (TextPart("<|im_end|>"),)

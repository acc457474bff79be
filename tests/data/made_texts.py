"""Letters and words that pictures of text are drawn from, in place of the parts."""

import random
from pathlib import Path

import matplotlib

HELD_OUT = ("DejaVu Serif",)


def text_sources(folder: Path) -> dict[str, Path]:
    """Two families of letters, one to be held out, and glosses of 450 made-up words."""
    fonts = folder / "fonts"
    fonts.mkdir()
    for name in ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"):
        (fonts / name).write_bytes(
            (Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name).read_bytes()
        )
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=6)) for _ in range(450)]
    wordnet = folder / "wordnet" / "usr/share/wordnet"
    wordnet.mkdir(parents=True)
    line = f"00000001 03 n 01 thing 0 000 | {' '.join(words)}\n"
    for name in ("noun", "verb", "adj", "adv"):
        (wordnet / f"data.{name}").write_text(line * 5)
    return {"fonts": fonts, "wordnet": folder / "wordnet"}

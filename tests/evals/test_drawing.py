import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.build.drawn_parts import write_unlike_styles
from unimoe.data import read_manifest
from unimoe.data.build.degrade import DEGRADATIONS, blur, edges, noise
from unimoe.data.build.drawing_scenes import draw_depth, draw_scene, wanted_depth
from unimoe.data.build.drawing_tasks import build_drawing_tasks
from unimoe.data.manifest import media_file
from unimoe.errors import CheckpointError, DataError
from unimoe.evals.drawing import DATASET, MEASURES, evaluate_drawing
from unimoe.evals.efficientnet import EfficientNetLite, load_efficientnet
from unimoe.evals.figures import Figure, read_figure
from unimoe.evals.name_judge import NameJudge, frechet_distance
from unimoe.evals.records import EvalFolder
from unimoe.evals.restored import (
    changed_region,
    classically_repaired,
    lines_followed,
    psnr_db,
)
from unimoe.evals.scene_check import fills_depth
from unimoe.evals.suite import EvalOptions
from unimoe.evals.tasks.mini import MINI
from unimoe.media.image import load_image

Picture = np.ndarray


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawing")
    build_drawing_tasks(write_unlike_styles(folder / "parts"), folder / DATASET, scale=0.05)
    return folder / DATASET


@pytest.fixture(scope="module")
def network() -> EfficientNetLite:
    torch.manual_seed(0)
    return EfficientNetLite().eval()


class Copyist:
    """Draws what the test wants, if it is that which is asked for."""

    def __init__(self, folder: Path) -> None:
        test = read_manifest(folder / "test.jsonl")
        self._wanted = {}
        for sample in test:
            prompt = sample.conversations[0].text.removeprefix("<image>")
            thought = sample.conversations[-1].text.removesuffix("<image>")
            pictures = [load_image(media_file(test.folder, path)) for path in sample.images]
            source = pictures[0].tobytes() if len(pictures) > 1 else b""
            self._wanted[prompt, thought, source] = pictures[-1]

    def draw(self, prompt: str, thought: str, source: Picture | None) -> Picture:
        return self._wanted[prompt, thought, b"" if source is None else source.tobytes()]

    def rebuild(self, picture: Picture) -> Picture:
        return picture


@pytest.fixture(scope="module")
def copied(
    built: Path, network: EfficientNetLite, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An evaluation of what the test wants."""
    out = tmp_path_factory.mktemp("copied")
    options = EvalOptions(data=built.parent, tasks=tuple(MEASURES), limit=2)
    evaluate_drawing(Copyist(built), MINI, options, EvalFolder(out), lambda: network)
    return out


def figures_of(folder: Path, measure: str) -> dict[str, Figure]:
    return {figure.title: figure for figure in map(read_figure, EvalFolder(folder).result(measure))}


def test_an_artist_that_draws_what_is_wanted_has_full_scores(copied: Path) -> None:
    [rebuilt] = figures_of(copied, "autoencoder").values()
    assert rebuilt.measured.value == 99
    scenes = figures_of(copied, "drawn_scenes").values()
    assert scenes
    assert all(figure.measured.value == 1 for figure in scenes)
    repairs = figures_of(copied, "repairs")
    assert len(repairs) == len(DEGRADATIONS)
    assert all(figure.measured.value > 20 and figure.is_reached for figure in repairs.values())
    edits = figures_of(copied, "edits")
    assert edits["Edit, recolour: PSNR of what was to stay"].measured.value == 99
    redrawn = figures_of(copied, "redrawn")
    lines = redrawn["Drawn from lines: F measure of edges"]
    assert lines.measured.value == 1 > lines.instead["of another picture"]
    assert redrawn["Drawn from depths: both colours in their place"].measured.value == 1
    style = redrawn["Redrawn in a style: the judge sees that style"]
    assert style.measured.value == style.instead["real drawings"]
    [speed] = figures_of(copied, "drawing_speed").values()
    assert speed.is_reached


def test_names_are_judged_beside_real_drawings(copied: Path) -> None:
    named, thought, apart = figures_of(copied, "drawn_names").values()

    assert named.measured.value == named.instead["real drawings of a style never seen"]
    assert named.instead["chance"] == thought.instead["chance"] < 0.2
    assert apart.measured.value == pytest.approx(*apart.instead.values())


def test_sheets_show_what_was_drawn(copied: Path) -> None:
    sheets = ("drawn_names", "drawn_scenes", "repairs", "edits", "redrawn")
    for name in sheets:
        assert load_image(copied / f"{name}.png").shape[0] > 96


def test_what_is_measured_is_not_measured_again(copied: Path, built: Path) -> None:
    def forbidden() -> EfficientNetLite:
        raise AssertionError

    options = EvalOptions(data=built.parent, tasks=tuple(MEASURES), limit=2)
    evaluate_drawing(Copyist(built), MINI, options, EvalFolder(copied), forbidden)


def test_a_set_without_these_tasks_is_refused(
    built: Path, network: EfficientNetLite, tmp_path: Path
) -> None:
    data = tmp_path / "data" / DATASET
    data.mkdir(parents=True)
    for split in ("test", "train"):
        (data / f"{split}.jsonl").write_text("")
    options = EvalOptions(data=tmp_path / "data", tasks=("drawn_scenes",))
    with pytest.raises(DataError, match="no samples of 'scenes'"):
        evaluate_drawing(
            Copyist(built), MINI, options, EvalFolder(tmp_path / "out"), lambda: network
        )


def test_the_judge_names_new_drawings_of_things_that_look_alike() -> None:
    random_numbers = torch.Generator().manual_seed(0)
    things = torch.randn(5, 64, generator=random_numbers)

    def seen(number: int) -> torch.Tensor:
        return things.repeat(number, 1) + 0.3 * torch.randn(
            5 * number, 64, generator=random_numbers
        )

    judge = NameJudge(seen(3), ["ant", "bee", "cat", "dog", "elk"] * 3)

    assert judge.named(seen(1)) == ["ant", "bee", "cat", "dog", "elk"]


def test_frechet_distance_is_zero_to_itself_and_the_square_of_a_shift() -> None:
    real = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))

    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(real + 0.5, real) == pytest.approx(8 * 0.25, rel=1e-3)


def test_features_of_a_stored_network_are_those_of_the_network(
    network: EfficientNetLite, tmp_path: Path
) -> None:
    """Stored names have underscores in front, and a classifier that is left out."""
    stored = {
        ".".join(f"_{part}" if part.isidentifier() and place != last else part
                 for place, part in enumerate(name.split(".")) for last in [name.count(".")]): value
        for name, value in network.state_dict().items()
    }  # fmt: skip
    torch.save(stored | {"_fc.weight": torch.zeros(2, 2)}, tmp_path / "network.pth")
    pictures = torch.rand(2, 3, 96, 96)

    loaded = load_efficientnet(tmp_path / "network.pth")

    assert torch.equal(loaded.features(pictures), network.features(pictures))


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "network.pth")
    with pytest.raises(CheckpointError, match="no EfficientNet-Lite0"):
        load_efficientnet(tmp_path / "network.pth")


def test_classical_filters_help_against_what_they_are_for() -> None:
    pixels = np.full((96, 96, 3), 255, np.uint8)
    pixels[20:70, 20:70] = (200, 60, 30)
    clean = Image.fromarray(pixels)
    for task, spoil in (("denoise", noise), ("deblur", blur)):
        spoilt = np.asarray(spoil(clean, random.Random(0)))

        repaired = classically_repaired(spoilt, task)

        assert psnr_db(repaired, pixels) > psnr_db(spoilt, pixels) + 1


def test_the_changed_region_is_what_differs_and_four_pixels_around() -> None:
    before = np.zeros((20, 20, 3), np.uint8)
    after = before.copy()
    after[10, 10] = 1

    region = changed_region(before, after)

    assert region.sum() == 81
    assert region[6, 6]
    assert not region[5, 10]


def test_psnr_of_a_region_ignores_the_rest() -> None:
    before = np.zeros((4, 4, 3), np.uint8)
    after = before.copy()
    after[0, 0] = 255
    region = np.zeros((4, 4), bool)
    region[2:] = True

    assert psnr_db(before, after, region) == 99
    assert psnr_db(before, after) < 15


def test_a_depth_map_is_filled_when_each_colour_is_in_its_place() -> None:
    wanted = wanted_depth(random.Random(4))
    depth = np.asarray(draw_depth(wanted.things))
    picture = np.asarray(draw_scene(wanted.things, "key"))
    nearer, farther = wanted.words.split(" in front of ")

    assert fills_depth(picture, depth, wanted.words)
    assert not fills_depth(picture, depth, f"{farther} in front of {nearer}")
    assert not fills_depth(np.full_like(picture, 255), depth, wanted.words)


def test_lines_are_followed_by_the_picture_they_were_taken_from_alone() -> None:
    pixels = np.full((96, 96, 3), 255, np.uint8)
    pixels[20:50, 20:50] = (200, 60, 30)
    lines = np.asarray(edges(Image.fromarray(pixels)))

    assert lines_followed(pixels, lines) == 1.0
    assert lines_followed(np.roll(pixels, 1, axis=0), lines) == 1.0
    assert lines_followed(np.roll(pixels, 40, axis=(0, 1)), lines) < 0.3
    assert lines_followed(np.full_like(pixels, 255), lines) == 0.0

import pytest
import torch
from torch import Tensor

from unimoe.heads.painter import Asked, Painter
from unimoe.recipes.tiny_drawing import PAINTER_OF_TINY as CONFIG
from unimoe.train.follow_core import follow_core

MEANINGS, PLACES = 8, 1 + CONFIG.num_image_states
TAUGHT = torch.randn(1000, MEANINGS, generator=torch.Generator().manual_seed(0))
UNSEEN = torch.randn(50, MEANINGS, generator=torch.Generator().manual_seed(1))


def states(meaning: Tensor, core: int) -> Tensor:
    """What a core says of prompts: the same of the same meaning, each core in its directions."""
    generator = torch.Generator().manual_seed(core)
    directions = torch.randn(MEANINGS, PLACES * CONFIG.core_width, generator=generator)
    mean = torch.randn(PLACES * CONFIG.core_width, generator=generator)
    return (meaning @ directions + mean).unflatten(1, (PLACES, CONFIG.core_width))


@pytest.fixture
def painter() -> Painter:
    """It knows the first core."""
    torch.manual_seed(0)
    painter = Painter(CONFIG)
    painter.fit_states(states(TAUGHT, core=1))
    return painter


def read(painter: Painter, core: int) -> Asked:
    with torch.no_grad():
        return painter.read(painter.normalised(states(UNSEEN, core)))


def share_explained(wanted: Tensor, found: Tensor) -> float:
    return 1 - float((wanted - found).square().mean() / wanted.var(0, correction=0).mean())


def test_a_painter_reads_of_another_core_what_it_read_of_its_own(painter: Painter) -> None:
    wanted = read(painter, core=1)

    follow_core(painter, states(TAUGHT, core=1), states(TAUGHT, core=2))
    found = read(painter, core=2)

    assert share_explained(wanted.draft, found.draft) > 0.95
    assert share_explained(wanted.features.prompt, found.features.prompt) > 0.9


def test_statistics_alone_do_not_let_it_read_another_core(painter: Painter) -> None:
    wanted = read(painter, core=1)

    painter.fit_states(states(TAUGHT, core=2))

    assert share_explained(wanted.draft, read(painter, core=2).draft) < 0


def test_what_does_not_read_states_is_left_as_it_is(painter: Painter) -> None:
    before = {name: value.clone() for name, value in painter.state_dict().items()}

    follow_core(painter, states(TAUGHT, core=1), states(TAUGHT, core=2))

    changed = {
        name for name, value in painter.state_dict().items() if not before[name].equal(value)
    }
    assert changed == {
        "state_mean",
        "state_std",
        "draft.gather.weight",
        "draft.gather.bias",
        "projector.content.weight",
        "projector.content.bias",
    }


def test_what_hardly_shows_in_the_states_is_read_too(painter: Painter) -> None:
    faint = torch.ones(MEANINGS)
    faint[0] = 0.05  # as names are beside everything else
    one, other = (UNSEEN.clone() for _ in range(2))
    one[:, 0], other[:, 0] = 1, -1
    painter.fit_states(states(TAUGHT * faint, core=1))

    def difference(core: int) -> Tensor:
        gathered = [
            painter.draft.gather(painter.normalised(states(each * faint, core)).flatten(1))
            for each in (one, other)
        ]
        return (gathered[0] - gathered[1]).detach()

    wanted = difference(core=1)

    follow_core(painter, states(TAUGHT * faint, core=1), states(TAUGHT * faint, core=2))

    lost = (wanted - difference(core=2)).square().mean() / wanted.square().mean()
    assert float(lost) < 0.02

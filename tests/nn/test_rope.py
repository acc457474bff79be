import torch
from hypothesis import given
from hypothesis import strategies as st

from unimoe.nn.rope import rotary_angles, rotate, rotation

THETA = 10_000.0


def angles_of(t: int, h: int, w: int, sections: tuple[int, int, int]) -> torch.Tensor:
    return rotary_angles(torch.tensor([[[t]], [[h]], [[w]]]), sections, THETA)[0, 0]


def test_each_section_follows_its_own_axis() -> None:
    # Six channel pairs with frequencies theta ** (-i / 6): two for t, one for h, three for w.
    frequencies = torch.tensor([THETA ** (-i / 6) for i in range(6)])
    positions = torch.tensor([5, 5, 7, 11, 11, 11])
    torch.testing.assert_close(angles_of(5, 7, 11, (2, 1, 3)), positions * frequencies)


@given(position=st.integers(0, 100_000))
def test_text_positions_are_plain_one_dimensional_rotation(position: int) -> None:
    split = angles_of(position, position, position, (2, 3, 3))
    plain = angles_of(position, 0, 0, (8, 0, 0))
    assert torch.equal(split, plain)


def test_a_channel_turns_with_the_one_half_a_head_away() -> None:
    quarter = torch.tensor([[[torch.pi / 2, 0.0]]])
    head = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = rotate(head, rotation(quarter, torch.float32)).flatten()
    torch.testing.assert_close(turned, torch.tensor([-3.0, 2.0, 1.0, 4.0]))


@given(shift=st.integers(0, 5_000), distance=st.integers(0, 50))
def test_scores_depend_on_distance_alone(shift: int, distance: int) -> None:
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.manual_seed(0)).unbind(0)

    def score(at: int) -> torch.Tensor:
        turns = (
            rotation(rotary_angles(torch.full((3, 1, 1), place), (1, 1, 2), THETA), torch.float32)
            for place in (at + distance, at)
        )
        there, here = turns
        return (rotate(query, there) * rotate(key, here)).sum()

    # 2e-3: float32 angles at 5000 radians are known to 2.4e-4
    torch.testing.assert_close(score(shift), score(0), rtol=0, atol=2e-3)


def test_angles_are_exact_where_bf16_positions_would_not_be() -> None:
    assert angles_of(257, 257, 257, (4, 0, 0))[0] == 257.0
    assert rotation(torch.tensor([[[257.0]]]), torch.bfloat16).cos.dtype == torch.bfloat16
    exact = torch.tensor(257.0).cos().bfloat16()
    assert rotation(torch.tensor([[[257.0]]]), torch.bfloat16).cos.flatten()[0] == exact

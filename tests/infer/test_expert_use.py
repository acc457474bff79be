"""Every real token is counted once, under what it stands for."""

import torch

from unimoe.config import RouterConfig
from unimoe.infer.engine import generate
from unimoe.infer.expert_use import ANSWER, GROUPS, NOT_COUNTED, ExpertUseByGroup, token_groups
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import OmniInference
from unimoe.nn.router import Routing
from unimoe.tokens.batch import collate
from unimoe.tokens.message import ImagePart, message
from unimoe.tokens.sequence import encode_chat

ROUTER = RouterConfig(num_routed=2, num_null=1, num_shared=1)


def routing_of(mask):
    mask = torch.tensor(mask, dtype=torch.bool)
    nothing = torch.zeros(len(mask), 4)
    return Routing(nothing, mask[:, :3].sum(1), mask[:, :3], mask, nothing)


def test_shares_are_of_the_tokens_of_a_group_and_leave_shared_columns_out():
    use = ExpertUseByGroup(ROUTER, 1, torch.device("cpu"))
    routing = routing_of([[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1]])
    groups = torch.tensor([[0, 0, GROUPS.index("image"), NOT_COUNTED]])
    use.add((routing,), groups)
    record = use.record()
    assert record["columns"] == ["expert 1", "expert 2", "null 1"]
    assert record["expert_use"] == {"text": [[1.0, 0.5, 0.0]], "image": [[0.0, 0.0, 1.0]]}
    assert record["num_tokens"] == {"text": 2, "image": 1}


def test_passes_add_up():
    use = ExpertUseByGroup(ROUTER, 1, torch.device("cpu"))
    for mask in ([1, 0, 0, 1], [0, 1, 0, 1]):
        use.add((routing_of([mask]),), torch.tensor([[ANSWER]]))
    assert use.record()["expert_use"] == {"answer": [[0.5, 0.5, 0.0]]}


def test_placeholders_and_padding_are_told_apart(tiny_directory):
    special = OmniInference(tiny_directory).model.config.special_tokens
    ids = torch.tensor([[special.pad, 5, special.image_pad, special.video_pad, special.audio_pad]])
    groups = token_groups(ids, torch.tensor([[0, 1, 1, 1, 1]]), special)
    assert groups.tolist() == [[NOT_COUNTED, 0, 1, 2, 3]]


def test_a_generation_counts_prompt_and_answer(tiny_directory):
    session = OmniInference(tiny_directory)
    config = session.model.config
    pixels = torch.zeros(56, 56, 3, dtype=torch.uint8).numpy()
    prompts = [message("user", ImagePart(pixels), "What is it?"), message("user", "Hi")]
    samples = [encode_chat([turn], session.vocabulary, config) for turn in prompts]
    batch = collate(samples, pad_id=config.special_tokens.pad, padding="left")
    use = ExpertUseByGroup(config.core.moe.router, config.core.num_layers, session.model.device)
    tokens = generate(
        session.model, batch, SamplingOptions(max_new_tokens=4), expert_use=use
    ).tokens()
    counted = use.record()["num_tokens"]
    real = int(batch.attention_mask.sum())
    assert counted["text"] + counted["image"] == real
    assert counted["image"] == samples[0].token_counts["image"]
    # The last token of an answer is never read by the model.
    assert counted["answer"] == sum(map(len, tokens)) - len(tokens)

"""Parts that every network shares: norm, rotary embedding, attention, mixture of experts."""

from unimoe.nn.attention import Attention, KeyValueStore, attention_pattern, grouped_attention
from unimoe.nn.layers import RMSNorm, SwiGLU
from unimoe.nn.moe import DynamicMoE, MoEOutput
from unimoe.nn.rope import Rotation, rotary_angles, rotate, rotation
from unimoe.nn.router import RouterDraws, Routing, balance_loss, route, z_loss

__all__ = [
    "Attention",
    "DynamicMoE",
    "KeyValueStore",
    "MoEOutput",
    "RMSNorm",
    "Rotation",
    "RouterDraws",
    "Routing",
    "SwiGLU",
    "attention_pattern",
    "balance_loss",
    "grouped_attention",
    "rotary_angles",
    "rotate",
    "rotation",
    "route",
    "z_loss",
]

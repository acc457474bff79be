"""The language core: its layers, its experts, their router."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unimoe.config.claims import require

RoutingRule = Literal["paper", "released"]
GateGradient = Literal["deterministic", "sampled"]
DropPolicy = Literal["probs", "position"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """Which experts a token takes, and how the router learns.

    Columns of the router, in this order: routed, null, shared; the first two are the dynamic ones.
    """

    num_routed: int = 4
    num_null: int = 1
    """Experts that return zero and cost nothing; their weight is lost to the token."""
    num_shared: int = 2
    """Experts every token takes; they share the softmax with the selected ones."""
    top_p: float | None = 0.7
    """Take the likeliest dynamic experts until their probability reaches this; None: `top_k`."""
    top_k: int | None = None
    """Take exactly this many dynamic experts; None: `top_p`."""
    rule: RoutingRule = "paper"
    gate_gradient: GateGradient = "deterministic"
    """`sampled`: in training experts are drawn, with the gradient estimator of the rule."""
    near_tie: float = 0.01
    """`released` only: experts within twice this relative gap of the best share its weight."""
    input_jitter: float = 0.0
    """Training only: the router sees its input times U(1 - jitter, 1 + jitter)."""
    fp32_in_training: bool = True
    """Router logits in float32 while training; in evaluation they have the model's dtype."""
    drop_policy: DropPolicy | None = None
    """`released` only: None drops nothing; otherwise how experts over capacity choose tokens."""
    capacity_factor: float = 1.0
    min_capacity: int = 8
    null_balance: float = 1.0
    """Weight of the null columns in the balance loss; below 1 more tokens go there (MoE++)."""

    def __post_init__(self) -> None:
        require(self.num_routed >= 1, f"num_routed is {self.num_routed}; need at least 1")
        require(self.num_null >= 0, f"num_null is {self.num_null}; need 0 or more")
        require(self.num_shared >= 0, f"num_shared is {self.num_shared}; need 0 or more")
        require(
            (self.top_p is None) != (self.top_k is None),
            f"top_p={self.top_p} and top_k={self.top_k}: give exactly one, the other as None",
        )
        if self.top_p is not None:
            require(0.0 < self.top_p <= 1.0, f"top_p is {self.top_p}; need 0 < top_p <= 1")
        if self.top_k is not None:
            require(
                1 <= self.top_k <= self.num_dynamic,
                f"top_k is {self.top_k}; need 1 to {self.num_dynamic} (routed + null)",
            )
        require(0.0 <= self.near_tie < 1.0, f"near_tie is {self.near_tie}; need 0 to 1")
        require(0.0 <= self.input_jitter < 1.0, f"input_jitter is {self.input_jitter}; need 0 to 1")
        require(self.capacity_factor > 0, f"capacity_factor is {self.capacity_factor}; need > 0")
        require(self.min_capacity >= 1, f"min_capacity is {self.min_capacity}; need 1 or more")
        require(self.null_balance >= 0, f"null_balance is {self.null_balance}; need 0 or more")
        require(
            self.drop_policy is None or self.rule == "released",
            f"drop_policy={self.drop_policy!r} exists under rule='released' only; set it to None",
        )

    @property
    def num_dynamic(self) -> int:
        """Routed and null columns: what top-p chooses among."""
        return self.num_routed + self.num_null

    @property
    def num_columns(self) -> int:
        """Width of the router."""
        return self.num_dynamic + self.num_shared


@dataclass(frozen=True, kw_only=True, slots=True)
class MoEConfig:
    """One dynamic-capacity MoE layer."""

    router: RouterConfig = field(default_factory=RouterConfig)
    routed_width: int
    """Inner width of a routed SwiGLU expert."""
    shared_width: int
    """Inner width of a shared one; the paper takes an eighth of a routed one."""
    delta_rank: int | None = None
    """None: every expert has matrices of its own. Otherwise all share one dense block of
    `routed_width` and add deltas of this rank; shared experts are slices of its channels."""

    def __post_init__(self) -> None:
        require(
            self.delta_rank is None or self.delta_rank >= 1,
            f"delta_rank is {self.delta_rank}; need 1 or more, or None",
        )
        require(
            self.delta_rank is None
            or self.router.num_shared * self.shared_width <= self.routed_width,
            f"{self.router.num_shared} shared experts of {self.shared_width} channels do not fit "
            f"into the {self.routed_width} of the dense block whose slices they are",
        )
        require(self.routed_width >= 1, f"routed_width is {self.routed_width}; need 1 or more")
        require(self.shared_width >= 1, f"shared_width is {self.shared_width}; need 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreConfig:
    """The language core: a decoder of Qwen2 or Llama shape, dense or MoE."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_width: int
    """Inner width of the dense feed-forward block; what upcycling copies from."""
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    rope_sections: tuple[int, int, int]
    """Channel pairs that turn with time, height and width; their sum is head_dim / 2."""
    has_qkv_bias: bool = True
    ties_embeddings: bool = False
    max_positions: int = 32_768
    """Longest sequence the weights were made for; longer requests are refused."""
    moe: MoEConfig | None = None
    """None: every layer keeps its dense feed-forward block."""
    dense_layers: tuple[int, ...] = ()
    """Layers that keep it although `moe` is given."""
    attention_delta_rank: int | None = None
    """Rank of what is learned beside the maps of attention, for all tokens alike; None: nothing."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_kv_heads", "ffn_width"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; need 1 or more")
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        require(
            2 * sum(self.rope_sections) == self.head_dim and min(self.rope_sections) >= 0,
            f"rope_sections {self.rope_sections} must add up to half of head_dim {self.head_dim}",
        )
        require(
            all(0 <= layer < self.num_layers for layer in self.dense_layers)
            and (self.moe is not None or not self.dense_layers),
            f"dense_layers {self.dense_layers} names layers of 0 to {self.num_layers - 1} beside "
            "an MoE; leave it empty for a dense model",
        )

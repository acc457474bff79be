"""A small byte-level tokenizer of the Qwen form, and a configuration to go with it."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from unimoe.config import (
    AudioConfig,
    CoreConfig,
    OmniConfig,
    SpecialTokens,
    VideoConfig,
    VisionConfig,
)

TEXT = [
    "You are a helpful assistant. What is in the image? The quick brown fox jumps over the dog.",
    "system\nuser\nassistant\nHello world, hello there! It's 42 degrees; isn't that warm?\n\n",
    "Größe, naïve café, 你好世界。 😀😁👍",
]
SPECIAL_TEXTS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<|speech_start|>",
    "<|speech_end|>",
    "<|speech_prompt|>",
]
# As in Qwen2: words with one character before them, single digits, punctuation with line ends.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tiny_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    # Half of them without the special flag: the config's naming them must do.
    tokenizer.add_tokens(
        [
            AddedToken(text, special=index < 3, normalized=False)
            for index, text in enumerate(SPECIAL_TEXTS)
        ]
    )
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


def special_tokens_of(tokenizer: Tokenizer) -> SpecialTokens:
    names = [text.strip("<|>") for text in SPECIAL_TEXTS[3:]]
    return SpecialTokens(
        pad=tokenizer.token_to_id("<|endoftext|>"),
        end_of_turn=tokenizer.token_to_id("<|im_end|>"),
        **{name: tokenizer.token_to_id(f"<|{name}|>") for name in names},
    )


def tiny_config(special_tokens: SpecialTokens) -> OmniConfig:
    return OmniConfig(
        core=CoreConfig(
            vocab_size=512,
            hidden_size=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            head_dim=8,
            ffn_width=16,
            rope_sections=(2, 1, 1),
            max_positions=2000,
        ),
        vision=VisionConfig(
            hidden_size=8,
            num_layers=1,
            num_heads=1,
            ffn_width=8,
            image_side=28,
            patch_side=14,
            pool_side=2,
        ),
        audio=AudioConfig(
            hidden_size=8,
            encoder_layers=1,
            decoder_layers=1,
            num_heads=1,
            ffn_width=8,
            num_mel_bins=16,
            max_source_positions=50,
            max_target_positions=20,
            vocab_size=32,
            queries_per_clip=20,
            max_clips=4,
        ),
        video=VideoConfig(frame_side=28),
        special_tokens=special_tokens,
    )

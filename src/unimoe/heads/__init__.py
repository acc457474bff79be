"""Heads: hidden states of the core to media. Speech: talker and codec; images: the Task-DiT."""

"""Data sets: one sample format, mixtures by token budget, and the builders of the mini sets."""

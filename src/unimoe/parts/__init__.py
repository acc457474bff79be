"""Pretrained parts: where each comes from, its sha256, its licence, and how it is read."""

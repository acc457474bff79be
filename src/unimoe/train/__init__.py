"""Training: the loop, its state on disk, its journal."""

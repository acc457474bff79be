"""Training: prepared features, packed batches, optimiser, states, journal, loop."""

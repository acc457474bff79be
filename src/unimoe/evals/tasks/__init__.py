"""The tasks of each model: one module a suite."""

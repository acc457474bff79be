"""Builders of the sets mini learns from: one module a set, each with its `build`."""

"""Evaluation: tasks with judges, scores with intervals."""

"""Ablations: the classifier of params.yaml against variants of it that differ in one thing each."""

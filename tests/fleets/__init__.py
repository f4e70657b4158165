"""Fleets: the same promises of every engine."""

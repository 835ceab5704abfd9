"""Doing it to a whole checkpoint: plan, then run. Floor 4."""

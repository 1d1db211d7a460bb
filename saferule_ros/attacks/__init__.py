"""Poisoning of datasets, for evaluation only: what Safe-RULE and others have to undo, with the ground truth."""

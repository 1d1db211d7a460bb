"""Forgetting: Safe-RULE on a learner, and the certificate of what was forgotten."""

"""Forgetting: Safe-RULE and the methods it is compared with, and the certificate of what was forgotten."""

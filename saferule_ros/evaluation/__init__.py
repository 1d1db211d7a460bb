"""Off-policy evaluation from logs: what a policy would cost, and which checkpoint to take."""

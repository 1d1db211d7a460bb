"""Errors of attacks."""

from saferule_ros.errors import SaferuleError


class AttackError(SaferuleError):
    """An attack lacks what it needs, cannot be made on this dataset, or is not the one that was asked for."""

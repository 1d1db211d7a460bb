"""Errors about safeguards."""

from saferule_ros.errors import SaferuleError


class SafeguardError(SaferuleError):
    """A safeguard says something that cannot be, or does not fit the data or the policy that it is used on."""

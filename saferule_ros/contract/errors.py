"""Errors about contracts."""

from saferule_ros.errors import SaferuleError


class ContractError(SaferuleError):
    """A contract says something that cannot be: an unknown source, type or field, sizes that do not fit."""

"""Errors about bags and the messages in them."""

from saferule_ros.errors import SaferuleError


class BagError(SaferuleError):
    """A bag is missing, damaged, of another kind, or cannot be written."""


class CdrError(SaferuleError):
    """Bytes that are no serialized message of the type that they were said to be."""

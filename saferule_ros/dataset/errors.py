"""Errors about data."""

from saferule_ros.errors import SaferuleError


class DatasetError(SaferuleError):
    """Data is malformed, missing, damaged or not what it claims to be."""


class ForgetSetError(DatasetError):
    """A forget set selects nothing, everything, or something that the dataset does not hold."""

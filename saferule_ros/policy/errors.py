"""What can go wrong with policies, one class per kind, so that callers can tell the kinds apart."""

from saferule_ros.errors import SaferuleError


class PolicyError(SaferuleError):
    """Base of everything that policy/ refuses."""


class SpecError(PolicyError):
    """A policy specification contradicts itself or what it is used with."""


class ExportError(PolicyError):
    """A torch module cannot become a policy of the given specification."""


class BundleError(PolicyError):
    """A bundle cannot be built from what was given, or its manifest is unreadable."""


class CorruptBundleError(BundleError):
    """A bundle on disk is not what its manifest says."""


class StoreError(PolicyError):
    """The store cannot do what was asked."""


class StoreMissingError(StoreError):
    """There is no store in this folder."""


class StoreBusyError(StoreError):
    """Another process has held the store's lock for too long."""


class UnknownPolicyError(StoreError):
    """The store has no bundle of this id."""


class NoPolicyError(StoreError):
    """The place (active, previous, candidate) is empty."""


class InferenceError(PolicyError):
    """A policy could not be loaded, or gave nothing."""


class AuditError(StoreError):
    """The audit log was changed by something else than the store, or a line of it is missing."""

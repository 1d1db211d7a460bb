"""One kind of error per invariant that a bundle can break; `invariants` checks them, in this order."""

from saferule_ros.policy.errors import BundleError, CorruptBundleError


class RefusedBundleError(BundleError):
    """A bundle breaks an invariant, and may not serve. One subclass per invariant.

    Args:
        value: what was found.
        limit: what is allowed; default: the invariant in words.
        hint: what to do.
    """

    invariant = "process"
    rule = "the gate's process ends with a report"
    way_out = "Export or patch it again"

    def __init__(self, value: str, limit: str = "", hint: str = "") -> None:
        self.value, self.limit = value, limit or self.rule
        super().__init__(f"{value} (invariant {self.invariant}: {self.limit})", hint or self.way_out)


class DamagedBundleError(RefusedBundleError, CorruptBundleError):
    """Base of those invariants that no bundle in a store may break, whether it serves or not."""

    way_out = "Add an intact copy of the bundle to the store again (that repairs it), or use another bundle"


class BundleFilesError(DamagedBundleError):
    """A file is missing, foreign, or no regular file."""

    invariant = "known_files"
    rule = "exactly the files of a bundle, regular ones"


class SizeCapError(DamagedBundleError):
    """A file is larger than is ever read."""

    invariant = "size_cap"
    rule = "no file over its cap; nothing is opened before this holds"
    way_out = "Export a smaller policy"


class UnsignedBundleError(DamagedBundleError):
    """Not signed by a key that is trusted here."""

    invariant = "signature"
    rule = "the manifest is signed by a trusted key"


class ManifestSchemaError(DamagedBundleError):
    """The manifest is no manifest."""

    invariant = "manifest_schema"
    rule = "the manifest is JSON of this schema"


class BundleIdError(DamagedBundleError):
    """The id is not that of the content."""

    invariant = "bundle_id"
    rule = "the bundle's id is the digest of what it says and holds"


class DigestError(DamagedBundleError):
    """A file is not what the manifest says."""

    invariant = "digests"
    rule = "every file has the size and digest that the manifest says"


class VersionCounterError(RefusedBundleError):
    """Older than a policy that was active: it may have been replaced for a reason."""

    invariant = "version_counter"
    rule = "not older than what was active"
    way_out = "To go back, roll back; or patch it again"


class ContractError(RefusedBundleError):
    """Made for another robot or task."""

    invariant = "contract"
    rule = "the robot's contract"


class OnnxParseError(RefusedBundleError):
    """No ONNX at all."""

    invariant = "onnx_parses"
    rule = "the bytes are a serialized ONNX model"


class SelfContainedError(RefusedBundleError):
    """Data of the policy lie in another file."""

    invariant = "self_contained"
    rule = "all data in the file itself"


class OnnxError(RefusedBundleError):
    """Not valid ONNX."""

    invariant = "onnx_checker"
    rule = "onnx.checker accepts it"


class CustomOperatorError(RefusedBundleError):
    """It needs code that is not part of ONNX."""

    invariant = "standard_operators"
    rule = "operators of standard ONNX only"


class OperatorError(RefusedBundleError):
    """An operator that no policy needs: control flow, random numbers, strings."""

    invariant = "allowed_operators"
    rule = "operators on the allow-list only"


class TraceError(RefusedBundleError):
    """The ONNX file says that it belongs to another bundle."""

    invariant = "traceable"
    rule = "the ONNX file names its bundle"


class LoadError(RefusedBundleError):
    """ONNX Runtime makes no session of it, or it fails when it is run."""

    invariant = "loads"
    rule = "ONNX Runtime loads and runs it"


class InterfaceError(RefusedBundleError):
    """Input or output differ from the specification."""

    invariant = "interface"
    rule = "one input and one output, named, typed and shaped as in the specification"


class GoldenError(RefusedBundleError):
    """It does not give what it gave when it was exported."""

    invariant = "golden_replay"
    rule = "golden inputs give the golden outputs within the tolerance"


class ActionBoundsError(RefusedBundleError):
    """An action is not finite or out of bounds."""

    invariant = "finite_and_in_bounds"
    rule = "actions are finite and in bounds for stored, random and extreme observations"


class DeadlineError(RefusedBundleError):
    """Too slow."""

    invariant = "deadline"
    rule = "the 99th percentile of one action's time is within the deadline"


class GateProcessError(RefusedBundleError):
    """The gate's own process crashed, hung or gave no report over it."""


def refusal_of(invariant: str) -> type[RefusedBundleError]:
    """The kind of error for a broken invariant, by its name; GateProcessError for any other name."""
    return _REFUSALS.get(invariant, GateProcessError)


_REFUSALS: dict[str, type[RefusedBundleError]] = {
    kind.invariant: kind
    for kind in (
        BundleFilesError, SizeCapError, UnsignedBundleError, ManifestSchemaError, BundleIdError, DigestError,
        VersionCounterError, ContractError, OnnxParseError, SelfContainedError, OnnxError, CustomOperatorError,
        OperatorError, TraceError, LoadError, InterfaceError, GoldenError, ActionBoundsError, DeadlineError,
    )
}  # fmt: skip

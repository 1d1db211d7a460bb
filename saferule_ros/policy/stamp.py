"""The bundle id inside the ONNX file, so that a file found alone can be traced.

The id is a digest of, among others, the file without it. So it is appended: in protobuf, the bytes of one more
element of a repeated field at the end of a message are that element. What was there before can be had back to the byte.
"""

from saferule_ros.policy.manifest import ID_LENGTH

KEY = "saferule.bundle_id"

# ModelProto.metadata_props is field 14, a StringStringEntryProto {1: key, 2: value}; wire type 2 (length-delimited).
_METADATA, _KEY, _VALUE = 14 << 3 | 2, 1 << 3 | 2, 2 << 3 | 2


def _field(tag: int, value: bytes) -> bytes:
    return bytes((tag, len(value))) + value  # lengths below 128 are one byte


def stamp(bundle_id: str) -> bytes:
    """The entry that says to which bundle a file belongs."""
    entry = _field(_KEY, KEY.encode()) + _field(_VALUE, bundle_id.encode())
    return _field(_METADATA, entry)


LENGTH = len(stamp("0" * ID_LENGTH))


def stamped(policy: bytes, bundle_id: str) -> bytes:
    """The policy with a bundle's stamp at its end."""
    return policy + stamp(bundle_id)


def unstamped(policy: bytes) -> bytes:
    """The policy without the stamp at its end, whoever's it is; itself where there is none."""
    return policy[:-LENGTH] if policy[-LENGTH:-ID_LENGTH] == stamp("0" * ID_LENGTH)[:-ID_LENGTH] else policy

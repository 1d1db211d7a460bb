"""Who made a file, and who is trusted to: Ed25519 signatures, and the folder of keys of one robot.

    <folder>/own.pem              this robot's private key (PKCS #8, mode 0600), made when it is first needed
    <folder>/trusted/<name>.pem   public keys that are trusted; the own one is among them as own.pem

Any tool that reads PEM reads these files (`openssl pkey -in own.pem -pubout`). A signature is over the data and a
context, one word that says what the data is: a signature of a bag's manifest is none of a policy bundle's.

Knows nothing of policies or bags: both are signed with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from saferule_ros.errors import SaferuleError
from saferule_ros.syncing import make_folder, sync_folder, write_new
from saferule_ros.workspace import check_name

OWN = "own"
KEY_ID_LENGTH = 16  # hex digits: 64 bits tell the few keys of a robot apart; the signature is checked in full
SIGNATURE_BYTES = 64  # RFC 8032
# A PEM file of one Ed25519 key has about 120 bytes; whatever is much larger is something else and is not read.
LARGEST_KEY_FILE = 4096
PRIVATE_MODE = 0o600
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SigningError(SaferuleError):
    """Base of everything that is wrong with keys and signatures."""


class KeyFileError(SigningError):
    """A key file is missing, no Ed25519 key, readable by others, or cannot be written."""


class UntrustedKeyError(SigningError):
    """Signed with a key that is not trusted here."""


class BadSignatureError(SigningError):
    """The signature does not belong to this data, context and key."""


@dataclass(frozen=True)
class Signature:
    """A signature and the id of the key that made it."""

    key_id: str
    value: bytes  # (64,)

    def as_json(self) -> dict[str, str]:
        """As JSON values."""
        return {"algorithm": "ed25519", "key_id": self.key_id, "signature": self.value.hex()}

    @classmethod
    def from_json(cls, fields: Any) -> Signature:
        """What as_json gave.

        Raises:
            BadSignatureError: no such object.
        """
        names = {"algorithm", "key_id", "signature"}
        if not isinstance(fields, dict) or set(fields) != names or fields["algorithm"] != "ed25519":
            raise BadSignatureError(f"signature {fields!r:.100} is none of Ed25519", f"It has {sorted(names)}")
        try:
            value = bytes.fromhex(fields["signature"])
        except (TypeError, ValueError) as error:
            raise BadSignatureError(f"signature {fields['signature']!r:.100} is not hexadecimal") from error
        if len(value) != SIGNATURE_BYTES or not isinstance(fields["key_id"], str):
            raise BadSignatureError(f"signature has {len(value)} bytes", f"Ed25519 gives {SIGNATURE_BYTES}")
        if fields["signature"] != value.hex():  # as with "D" for "d", or spaces: one signature has one spelling
            raise BadSignatureError(
                f"signature {fields['signature']!r:.100} is not spelled as it was made: lower-case digits, no spaces",
                "Take an unchanged copy",
            )
        return cls(fields["key_id"], value)


class PublicKey:
    """Checks signatures."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.id = hashlib.sha256(raw).hexdigest()[:KEY_ID_LENGTH]

    @property
    def pem(self) -> bytes:
        """As PEM (SubjectPublicKeyInfo)."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )  # fmt: skip

    def verify(self, context: str, data: bytes, signature: Signature) -> None:
        """Returns if the signature is this key's over `data` in `context`.

        Raises:
            BadSignatureError: it is not.
        """
        try:
            self._key.verify(signature.value, _message(context, data))
        except InvalidSignature as error:
            raise BadSignatureError(
                f"the signature by key {signature.key_id} is not of this {context}",
                "It was changed after it was signed; take an unchanged copy",
            ) from error

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Reads one from a file. For errors see from_pem."""
        return cls.from_pem(_read(path, _PUBLIC)[0], str(path))

    @classmethod
    def from_pem(cls, pem: bytes, source: str = "the key") -> PublicKey:
        """Reads one.

        Raises:
            KeyFileError: no Ed25519 public key.
        """
        if b"PRIVATE KEY" in pem:
            raise KeyFileError(f"{source} is a private key, which never leaves its machine", _PUBLIC)
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{source} is no public key in PEM: {error}", _PUBLIC) from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{source} is a {type(key).__name__}, not an Ed25519 key", _PUBLIC)
        return cls(key)


class PrivateKey:
    """Signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new one, from the operating system's random numbers."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, context: str, data: bytes) -> Signature:
        """Signature over `data` in `context` (one word that says what the data is)."""
        return Signature(self.public.id, self._key.sign(_message(context, data)))

    def write(self, path: Path) -> None:
        """Writes it to a new file of mode 0600: whole and durable, or not at all.

        Raises:
            FileExistsError: there is one already; it is left as it is.
            KeyFileError: it cannot be written.
        """
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write_new(path, pem, PRIVATE_MODE)

    @classmethod
    def read(cls, path: Path) -> PrivateKey:
        """Reads what write() wrote.

        Raises:
            KeyFileError: missing, no Ed25519 private key, or other users may read it.
        """
        pem, mode = _read(path)
        if mode & _READABLE_BY_OTHERS:
            raise KeyFileError(
                f"private key {path} has mode {stat.S_IMODE(mode):04o}: other users may use it",
                f"chmod 600 {path}, and if others did use this machine, make a new key",
            )
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{path} is no private key in PEM without a password: {error}", _NEW) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{path} is a {type(key).__name__}, not an Ed25519 key", _NEW)
        return cls(key)


class TrustedKeys:
    """Public keys that are trusted, by name. Plain data: nothing is read when it is asked.

    Args:
        keys: name -> key.
    """

    def __init__(self, keys: dict[str, PublicKey]) -> None:
        self.by_name = dict(keys)
        self._by_id = {key.id: name for name, key in keys.items()}

    def name_of(self, key_id: str) -> str:
        """The name of a trusted key, "" if it is not trusted."""
        return self._by_id.get(key_id, "")

    def verify(self, context: str, data: bytes, signature: Signature) -> str:
        """Returns the name of the trusted key that made the signature.

        Raises:
            UntrustedKeyError: no trusted key has its id.
            BadSignatureError: the signature is not of this data and context.
        """
        name = self.name_of(signature.key_id)
        if not name:
            known = ", ".join(f"{key.id} ({name})" for name, key in sorted(self.by_name.items())) or "none"
            raise UntrustedKeyError(
                f"this {context} is signed with key {signature.key_id!r:.40}, which is not trusted here",
                f"Trusted are: {known}. If you know who has that key: saferule keys trust FILE",
            )
        self.by_name[name].verify(context, data, signature)
        return name


class KeyFolder:
    """The keys of one robot. Nothing is read or made until a method is called.

    Args:
        folder: see the module.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own, self._trusted = folder / f"{OWN}.pem", folder / "trusted"

    def own(self) -> PrivateKey:
        """This robot's key. Made, and trusted here, where there is none; two processes get the same one.

        Raises:
            KeyFileError: it cannot be read or made, or another one is trusted by its name.
        """
        if not self._own.exists():
            _make_folder(self.folder)
            with contextlib.suppress(FileExistsError):  # another process was quicker: then that one is ours
                PrivateKey.generate().write(self._own)
        key = PrivateKey.read(self._own)
        trusted = self.trusted_path(OWN)
        if not trusted.exists():
            with contextlib.suppress(FileExistsError):
                self._write_trusted(OWN, key.public)
        if (other := PublicKey.read(trusted).id) != key.public.id:
            raise KeyFileError(
                f"{trusted} is not the public half of {self._own}: it has key {other}, not {key.public.id}",
                f"Give it the name of the machine that it is of, such as {trusted.with_name('lab.pem')}",
            )
        return key

    def trust(self, name: str, key: PublicKey) -> None:
        """Trusts a key from now on. Trusting the same one again changes nothing.

        Raises:
            KeyFileError: another key has that name, or it is this machine's own one's; or it cannot be written.
            WorkspaceError: not a name.
        """
        path = self.trusted_path(check_name(name, "name of a key"))
        if name == OWN and (not self._own.exists() or PrivateKey.read(self._own).public.id != key.id):
            raise KeyFileError(
                f"{OWN!r} is this machine's own key, and {key.id} is another one",
                "Call it by the machine that it is of: --name lab",
            )
        try:
            self._write_trusted(name, key)
        except FileExistsError as error:
            if PublicKey.read(path).id != key.id:
                raise KeyFileError(
                    f"another key is trusted as {name!r} already", f"Give another name, or remove {path} first"
                ) from error

    def trusted(self) -> TrustedKeys:
        """The keys that are trusted now.

        Raises:
            KeyFileError: a file among them is no public key: it is refused as a whole, not skipped.
        """
        return TrustedKeys({path.stem: PublicKey.read(path) for path in sorted(self._files())})

    def _files(self) -> Iterator[Path]:
        # Temporary files begin with a dot: what a kill left of one is no key.
        return (path for path in self._trusted.glob("*.pem") if not path.name.startswith("."))

    def trusted_path(self, name: str) -> Path:
        """Where a trusted key of this name lies."""
        return self._trusted / f"{name}.pem"

    def _write_trusted(self, name: str, key: PublicKey) -> None:
        _make_folder(self.folder)
        _make_folder(self._trusted)
        _write_new(self.trusted_path(name), key.pem, 0o644)


def _message(context: str, data: bytes) -> bytes:
    """What is really signed: the context, its end, and the data's digest."""
    return b"saferule " + context.encode() + b"\0" + hashlib.sha256(data).digest()


def _read(path: Path, hint: str = "") -> tuple[bytes, int]:
    """Content and mode of a key file."""
    hint = hint or _NEW
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}", hint) from error
    if len(data) > LARGEST_KEY_FILE:
        raise KeyFileError(f"{path} has more than {LARGEST_KEY_FILE} bytes and is no key file", hint)
    return data, mode


def _make_folder(path: Path) -> None:
    try:
        make_folder(path)
    except OSError as error:
        raise KeyFileError(f"folder {path} cannot be made: {error.strerror}", _WRITABLE) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Creates `path` with `data`: synced, then linked to its name, which fails where that exists."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        try:
            write_new(temporary, data, mode, exactly=True)
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}", _WRITABLE) from error


_NEW = "Make one: saferule keys new"
_PUBLIC = "A public key is the file keys/trusted/own.pem of the machine that signs"
_WRITABLE = "Free space on the disk, or correct the folder's permissions"

"""Keys and signatures: who may sign, what is refused, and what a kill or a second process leaves."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from saferule_ros.signing import (
    BadSignatureError,
    KeyFileError,
    KeyFolder,
    PrivateKey,
    PublicKey,
    Signature,
    SigningError,
    TrustedKeys,
    UntrustedKeyError,
)

KEY = PrivateKey.generate()
TRUSTED = TrustedKeys({"robot": KEY.public})
SIGNED = KEY.sign("policy bundle", b"content")


def test_what_a_trusted_key_signed_is_accepted_by_its_name() -> None:
    assert TRUSTED.verify("policy bundle", b"content", SIGNED) == "robot"
    assert Signature.from_json(SIGNED.as_json()) == SIGNED


@pytest.mark.parametrize(
    "context, data", [("policy bundle", b"other"), ("bag", b"content"), ("policy bundlec", b"ontent")]
)
def test_a_signature_holds_for_one_content_in_one_context(context: str, data: bytes) -> None:
    with pytest.raises(BadSignatureError, match=f"is not of this {context}"):
        TRUSTED.verify(context, data, SIGNED)


def test_a_key_that_is_not_trusted_is_named_with_those_that_are() -> None:
    stranger = PrivateKey.generate()
    with pytest.raises(UntrustedKeyError, match=f"{stranger.public.id}.*Trusted are: {KEY.public.id} \\(robot\\)"):
        TRUSTED.verify("policy bundle", b"content", stranger.sign("policy bundle", b"content"))


def test_the_id_of_a_trusted_key_does_not_lend_trust_to_another_keys_signature() -> None:
    forged = Signature(KEY.public.id, PrivateKey.generate().sign("policy bundle", b"content").value)
    with pytest.raises(BadSignatureError):
        TRUSTED.verify("policy bundle", b"content", forged)


@given(st.binary(max_size=80), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_other_bytes_are_a_signature(value: bytes, key_id: str) -> None:
    for name in (key_id, KEY.public.id):
        with pytest.raises(SigningError):
            TRUSTED.verify("bag", b"content", Signature(name, value))


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.dictionaries(st.sampled_from(["algorithm", "key_id", "signature", "x"]), inner),
    )
)
@settings(max_examples=200, deadline=None)
def test_what_is_no_signature_object_is_refused(fields: object) -> None:
    with pytest.raises(BadSignatureError):
        Signature.from_json(fields)


@pytest.mark.parametrize("respell", [str.upper, lambda of: f" {of}", lambda of: f"{of[:2]} {of[2:]}"])
def test_a_signature_has_one_spelling(respell: Callable[[str], str]) -> None:
    fields = SIGNED.as_json()
    with pytest.raises(BadSignatureError, match="is not spelled as it was made"):
        Signature.from_json(fields | {"signature": respell(fields["signature"])})


def test_a_robots_key_is_made_once_for_it_alone_and_trusted(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "workspace" / "keys")
    assert not keys.folder.exists()
    own = keys.own()
    assert keys.own().public.id == own.public.id
    assert stat.S_IMODE((keys.folder / "own.pem").stat().st_mode) == 0o600
    assert keys.trusted().verify("bag", b"x", own.sign("bag", b"x")) == "own"


def test_many_at_once_get_the_same_key(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(KeyFolder(tmp_path).own().public.id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["own.pem", "own.pem"]


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path)
    keys.own()
    (tmp_path / "own.pem").chmod(0o640)
    with pytest.raises(KeyFileError, match=r"mode 0640.*chmod 600"):
        keys.own()


def test_another_robots_key_is_trusted_by_name(tmp_path: Path) -> None:
    edge, keys = PrivateKey.generate(), KeyFolder(tmp_path)
    for _ in range(2):  # the second time changes nothing
        keys.trust("edge", PublicKey.from_pem(edge.public.pem))
    assert keys.trusted().name_of(edge.public.id) == "edge"
    with pytest.raises(KeyFileError, match="another key is trusted as 'edge'"):
        keys.trust("edge", KEY.public)
    keys.own()
    with pytest.raises(KeyFileError, match=r"own\.pem is a private key, .*keys/trusted/own\.pem"):
        PublicKey.read(tmp_path / "own.pem")
    with pytest.raises(Exception, match="cannot be a folder name"):
        keys.trust("../own", KEY.public)


def test_another_machines_key_does_not_take_the_name_of_ones_own(tmp_path: Path) -> None:
    """Its file is called own.pem there, and so it would be by default."""
    lab, keys = PrivateKey.generate(), KeyFolder(tmp_path)
    with pytest.raises(KeyFileError, match=rf"own key, and {lab.public.id} is another one.*--name lab"):
        keys.trust("own", lab.public)
    own = keys.own()
    with pytest.raises(KeyFileError, match="--name lab"):
        keys.trust("own", lab.public)
    keys.trust("own", own.public)  # which it is
    keys.trust("lab", lab.public)
    assert keys.trusted().by_name.keys() == {"own", "lab"}


def test_a_folder_in_which_another_key_is_called_ones_own_says_so(tmp_path: Path) -> None:
    """As one that was filled by hand: what is signed here would be trusted nowhere, not here either."""
    lab, keys = PrivateKey.generate(), KeyFolder(tmp_path)
    own = keys.own()
    keys.trusted_path("own").write_bytes(lab.public.pem)
    with pytest.raises(KeyFileError, match=rf"not the public half.*{lab.public.id}, not {own.public.id}"):
        keys.own()


def rsa_pem() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "content", [b"", b"no key", rsa_pem(), b"x" * 5000, KEY.public.pem[:60]],
    # Every test process makes keys of its own, and tests must have the same names in all of them.
    ids=["empty", "text", "rsa", "long", "torn"],
)  # fmt: skip
def test_a_file_that_is_no_key_makes_the_folder_untrustworthy(tmp_path: Path, content: bytes) -> None:
    keys = KeyFolder(tmp_path)
    keys.own()
    (tmp_path / "trusted" / "odd.pem").write_bytes(content)
    with pytest.raises(KeyFileError, match=r"odd\.pem"):
        keys.trusted()


KILLED = """
import os, signal, sys
from pathlib import Path
import saferule_ros.signing as signing
calls, at = 0, int(sys.argv[2])
def dying(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    setattr(os, name, call)
for name in ("open", "fsync", "link", "unlink", "fchmod"):
    dying(name)
signing.KeyFolder(Path(sys.argv[1])).own()
"""


def test_killed_at_any_call_it_leaves_no_half_key(tmp_path: Path) -> None:
    package = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{package}"}
    for at in range(1, 30):
        folder = tmp_path / str(at)
        command = [sys.executable, "-c", KILLED, str(folder), str(at)]
        status = subprocess.run(command, env=environment, check=False).returncode
        own = KeyFolder(folder).own()
        assert KeyFolder(folder).trusted().name_of(own.public.id) == "own"
        if status == 0:
            assert at > 10, "so few calls were interrupted"
            return
        assert status == -signal.SIGKILL
    pytest.fail("it never got to its end")

"""Text from a command line, which need not be text: bytes that are no UTF-8 come as lone surrogates."""


def as_utf8(given: str) -> str:
    """The text with a "?" for whatever UTF-8 has no bytes for: JSON could be written with it, and not be read again."""
    return given.encode(errors="replace").decode()

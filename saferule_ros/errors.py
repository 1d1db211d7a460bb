"""The one error that users meet: it says what was wrong, with which value, and what to do."""


class SaferuleError(Exception):
    """Base of every error that saferule_ros raises for bad input or a refused request.

    Args:
        what: what is wrong, with the offending value in it.
        hint: what the reader can do about it.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}. {hint}" if hint else what)
        self.what = what
        self.hint = hint


class SettingsError(SaferuleError):
    """A setting is missing, unknown or out of range."""

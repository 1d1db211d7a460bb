"""What zipfile raises for damaged files: more than it says. Each kind was found by fuzzing."""

import struct
import zipfile

# Beside its own error, whatever a number or a name in the file hits: names that are no UTF-8 and places before
# the file or beyond 63 bits (ValueError, OverflowError), empty names (LookupError), encryption and unknown methods
# (RuntimeError), cut records.
ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, ValueError, OverflowError, EOFError, LookupError, struct.error)

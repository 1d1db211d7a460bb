"""Points the ROS wheels' CMake files at this environment.

The wheels' exports carry paths of the machine that built them, for Python's headers and for numpy's. CMake refuses
an include folder that does not exist, so both are rewritten. This is a fault of the wheels, not of the package:
its CMakeLists.txt knows nothing of it.
"""

from __future__ import annotations

import re
from pathlib import Path

BUILDERS_NUMPY = re.compile(r"/opt/python/[\w.-]+/lib/python3\.\d+/site-packages/numpy/_?core/include")
BUILDERS_PYTHON = re.compile(r"/opt/python/[\w.-]+/include/python3\.\d+")


def rewrite(share: Path, python_include: str, numpy_include: str) -> int:
    """Rewrites every *.cmake under `share`; a second time finds nothing to do.

    Returns:
        How many files were changed.
    """
    changed = 0
    for path in share.rglob("*.cmake"):
        before = path.read_text()
        after = BUILDERS_PYTHON.sub(python_include, BUILDERS_NUMPY.sub(numpy_include, before))
        if after != before:
            path.write_text(after)
            changed += 1
    return changed

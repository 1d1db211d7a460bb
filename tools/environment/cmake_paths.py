"""Points the ROS wheels' CMake files at this environment.

Two things in them do not fit a virtual environment. Both are mended there, not in this package, whose
CMakeLists.txt is what it would be on any ROS distribution.

- The exports carry paths of the machine that built them, for Python's headers and for numpy's. CMake refuses
  an include folder that does not exist.
- rosidl exports numpy's include folder with every package of messages. CMake refuses to export a path that
  lies in the package's own source tree, as it does where the environment is made inside the repository.
"""

from __future__ import annotations

import re
from pathlib import Path

BUILDERS_NUMPY = re.compile(r"/opt/python/[\w.-]+/lib/python3\.\d+/site-packages/numpy/_?core/include")
BUILDERS_PYTHON = re.compile(r"/opt/python/[\w.-]+/include/python3\.\d+")
EXPORTED_NUMPY = re.compile(r"(PUBLIC \$\{Python3_INCLUDE_DIRS\} )\$\{Python3_NumPy_INCLUDE_DIRS\}")
NUMPY_FOR_BUILD_ONLY = r"\1$<BUILD_INTERFACE:${Python3_NumPy_INCLUDE_DIRS}>"


def rewrite(share: Path, python_include: str, numpy_include: str) -> int:
    """Rewrites every *.cmake under `share`; a second time finds nothing to do.

    Returns:
        How many files were changed.
    """
    changed = 0
    for path in share.rglob("*.cmake"):
        before = path.read_text()
        after = BUILDERS_PYTHON.sub(python_include, BUILDERS_NUMPY.sub(numpy_include, before))
        after = EXPORTED_NUMPY.sub(NUMPY_FOR_BUILD_ONLY, after)
        if after != before:
            path.write_text(after)
            changed += 1
    return changed

#!/usr/bin/env python3
"""Runs a command in the environment that `make setup` made:  tools/with_env.py [--ros NAME] COMMAND…

Without a command it starts a shell there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from environment import places, shell
from environment.trouble import Trouble

ROOT = Path(__file__).resolve().parent.parent


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--ros",
        default="",
        help="kilted, jazzy, or a sourced distribution (default: the sourced one, else kilted)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run (default: a shell)")
    arguments = parser.parse_args()
    try:
        place = places.choose(ROOT, arguments.ros, os.environ)
        if not place.shell_file.is_file():
            raise Trouble(f".venv/{place.name} is not set up.", f"Run:  make setup ROS={place.distro}")
    except Trouble as trouble:
        print(f"with_env: {trouble}", file=sys.stderr)
        sys.exit(1)
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    line = shell.command(place, words or ["bash", "-i"])
    os.execvp(line[0], line)


if __name__ == "__main__":
    main()

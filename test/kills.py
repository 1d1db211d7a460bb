"""Changes of the file system that are killed before each of their steps, one process for each."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# Each child forgets what it did by being killed; what they have in common is imported once.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {test_folder!r})
{code}
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")
for steps in range({most}):
    folder = Path(sys.argv[1]) / str(steps)
    prepare(folder)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        def watch(event, arguments):
            global steps
            if event in CHANGES or (event == "open" and arguments[2] & os.O_CREAT):
                if steps == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps -= 1
        sys.addaudithook(watch)
        change(folder)
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([str(folder), said, status]), flush=True)
    if status == 0:
        break
"""
# Of any change here; one that has more is none of these.
MOST_STEPS = 100


class Attempt(NamedTuple):
    """What a change left, and what it printed before it was killed."""

    folder: Path
    said: str


def killed_at_each_step(code: str, work: Path) -> list[Attempt]:
    """Does a change again and again, killed before its first step, its second, ... and in the end not at all.

    Args:
        code: defines prepare(folder) and change(folder); may import from the tests.
        work: gets a folder for each attempt.
    """
    program = PROGRAM.format(test_folder=str(Path(__file__).parent), code=code, most=MOST_STEPS)
    command = [sys.executable, "-c", program, str(work)]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [status for *_, status in lines] == [-signal.SIGKILL] * (len(lines) - 1) + [0], ended.stderr
    return [Attempt(Path(folder), said) for folder, said, _ in lines]

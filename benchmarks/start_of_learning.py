#!/usr/bin/env python3
"""What the optimiser costs a process that learns: until its first step, and in memory, beside torch's own.

    saferule_ros$ make shell
    (…) $ cd /tmp && python …/benchmarks/start_of_learning.py --out …/docs/results/start_of_learning.md

Each start is a process of its own, by turns, after one of each that is not counted. `bare` imports torch and takes no
step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from table_of_rows import made_with, show

from saferule_ros.reporting.markdown import table
from saferule_ros.reporting.provenance import machine, versions

# Of one process: processor seconds and peak memory after one step of a network of the usual size.
PROCESS = """
import json, resource, sys, time
import torch
from saferule_ros.learning.adam import Adam

kind = sys.argv[1]
network = torch.nn.Sequential(torch.nn.Linear(60, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
if kind != "bare":
    made = Adam(network.parameters(), 1e-3) if kind == "ours" else torch.optim.Adam(network.parameters(), fused=True)
    network(torch.zeros(8, 60)).sum().backward()
    made.step()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": time.process_time(), "memory": memory, "modules": len(sys.modules)}))
"""
KINDS = ("bare", "ours", "torch.optim")


def one(kind: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", PROCESS, kind], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=7, help="of each kind (default: 7)")
    parser.add_argument("--out", type=Path, help="write the document there, too")
    arguments = parser.parse_args()
    turns = [{kind: one(kind) for kind in KINDS} for _ in range(arguments.starts + 1)][1:]
    middle = {
        kind: {name: median(turn[kind][name] for turn in turns) for name in ("seconds", "memory", "modules")}
        for kind in KINDS
    }
    rows = [
        [kind, f"{of['seconds']:.2f}", f"{of['memory'] / 2**20:.0f}", f"{of['modules']:.0f}"]
        for kind, of in middle.items()
    ]
    document = "\n".join([
        "# Start of learning", "", "<!-- Written by benchmarks/start_of_learning.py; do not edit. -->", "",
        f"Until one gradient step was taken; medians of {arguments.starts} processes of each kind.", "",
        *table(["optimiser", "CPU seconds", "peak memory [MiB]", "Python modules"], rows), "",
        made_with(versions(), machine()), "",
    ])  # fmt: skip
    show(document, {"turns": turns, "versions": versions(), "machine": machine()}, arguments.out)


if __name__ == "__main__":
    main()

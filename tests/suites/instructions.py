"""Instructions of the stack's paths, counted by callgrind and compared with a checked-in table.

Unlike times, instructions are the same on every machine, so a path that has become longer is seen
even on a busy one. The table is `bench/instructions.txt`; a path that takes more than 3 % more than
it says fails, one that takes more than 3 % less fails as well, so that the table stays true.
`UPDATE_INSTRUCTIONS=1 tests/run.py instructions` writes it anew: say in the commit why.
"""

import os
import pathlib
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TABLE = ROOT / "bench" / "instructions.txt"
TOLERANCE = 0.03
COUNT = 200
HEAD = """\
# Instructions of the stack's paths, as callgrind counts them: the table that `tests/run.py instructions`
# compares with. What each path is says bench/benches/instructions.rs.
"""


def build(log):
    """The program whose paths are counted."""
    argv = ["cargo", "build", "--release", "--locked", "-p", "onwire-bench", "--bench",
            "instructions", "--message-format", "json"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as errors:
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
                              stdin=subprocess.DEVNULL, timeout=900)
    found = re.findall(r'"executable":"([^"]*/instructions-[^"]*)"', done.stdout)
    if done.returncode != 0 or not found:
        raise RuntimeError(f"the paths do not build: see {log}")
    return found[-1]


def count(program, path, folder):
    """Instructions of all calls of `path`."""
    out = folder / f"{path}.callgrind"
    argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
            f"--toggle-collect=instructions::{path}", program, path, str(COUNT)]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=300, env={**os.environ, "LD_PRELOAD": ""})
    totals = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M) if out.exists() else None
    if done.returncode != 0 or not totals or int(totals[1]) == 0:
        raise RuntimeError(f"callgrind counted nothing of {path}: {done.stderr[-600:]}")
    return int(totals[1])


def read():
    """({path: instructions}, the compiler that they are of)"""
    table, compiler = {}, None
    for line in TABLE.read_text().splitlines() if TABLE.exists() else []:
        if line.startswith("rustc "):
            compiler = line
        elif line and not line.startswith("#"):
            path, instructions = line.split()
            table[path] = int(instructions)
    return table, compiler


def judge(expected, found):
    """What is wrong with `found` instructions, or nothing."""
    if expected is None:
        return "is not in the table"
    change = found / expected - 1
    if change > TOLERANCE:
        return f"takes {found}, {change:+.1%} against the table's {expected}"
    if change < -TOLERANCE:
        return f"takes only {found}, {change:+.1%} against the table's {expected}: update the table"
    return None


def run(report, words, _jobs, logs, _world):
    compiler = subprocess.run(["rustc", "--version"], cwd=ROOT, capture_output=True,
                              text=True).stdout.strip()
    begun = time.monotonic()
    table, of = read()
    try:
        program = build(logs / "build.log")
        listed = subprocess.run([program, "--list"], capture_output=True, text=True).stdout
        paths = {path: int(times) for path, times in map(str.split, listed.splitlines())}
        chosen = [path for path in paths if not words or any(word in path for word in words)]
        found = {path: round(count(program, path, logs) / COUNT / paths[path]) for path in chosen}
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        (logs / "failure.log").write_text(f"{error}\n")
        report.add("instructions", False, time.monotonic() - begun, logs / "failure.log")
        return
    if os.environ.get("UPDATE_INSTRUCTIONS"):
        table = {path: found.get(path, table.get(path)) for path in paths}
        lines = [f"{path:<24} {table[path]}\n" for path in paths]
        TABLE.write_text(f"{HEAD}{compiler}\n{''.join(lines)}")
        of = compiler
    for path in chosen:
        log = logs / f"{path}.log"
        # Another compiler makes other code: then the counts are shown, and compared with nothing.
        problem = judge(table.get(path), found[path]) if of == compiler else None
        log.write_text(f"{path} {problem}\n")
        note = f"{found[path]} instructions"
        if of != compiler:
            note += f", not compared: the table is of {of}"
        report.add(f"instructions {path}", problem is None, 0.0, log, note)
    for path in table.keys() - paths.keys():
        (logs / "failure.log").write_text(f"{path} is in the table and in no program\n")
        report.add(f"instructions {path}", False, 0.0, logs / "failure.log")

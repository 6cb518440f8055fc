#!/usr/bin/python3
"""Runs the tests that need a whole program: `tests/run.py [c] [e2e] [python] [crates] [nic] [instructions] [-k WORD]`.

Prints a line for every test as it ends, keeps full logs in target/test-logs, shows a failure's
tail at once, and closes with `N passed, N failed` (also written to target/test-logs/SUITE.count).
"""

import argparse
import ast
import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent
LOGS = ROOT / "target" / "test-logs"
# "unchanged": in a chroot the root is no mount point whose propagation could be changed.
UNSHARE = ["unshare", "--net", "--mount", "--propagation", "unchanged", "--pid", "--fork",
           "--mount-proc", "--kill-child"]
PYTHON = "/usr/bin/python3"
sys.path.insert(0, str(TESTS))
sys.dont_write_bytecode = True


class Report:
    """Counts and prints results."""

    # A machine that others use may make a test late; more of them are no accident.
    MOST_REPEATED = 2

    def __init__(self, colour):
        self.passed, self.failed, self.repeated, self.colour = 0, [], [], colour

    def judge(self, name, attempt, first=None):
        """Runs a test, and once more if it fails; `attempt()`: (passed, seconds, log, note).

        `first` is what the first attempt gave if that has been made already.
        """
        passed, seconds, log, note = first or attempt()
        if not passed and len(self.repeated) < self.MOST_REPEATED:
            self.repeated.append(name)
            print(f"AGAIN {name} ({seconds:.1f} s): it failed, saying", flush=True)
            self.show(log)
            passed, seconds, log, note = attempt()
            note = f"at the second attempt {note}".rstrip()
        self.add(name, passed, seconds, log, note)

    def show(self, log):
        if log and log.exists():
            for line in log.read_text(errors="replace").splitlines()[-60:]:
                print(f"     {line}")
            print(f"     (all of it: {log})", flush=True)

    def add(self, name, passed, seconds, log, note=""):
        word = "PASS" if passed else "FAIL"
        if self.colour:
            word = f"\033[{'32' if passed else '31'}m{word}\033[0m"
        print(f"{word} {name} ({seconds:.1f} s){' ' + note if note else ''}", flush=True)
        if passed:
            self.passed += 1
            return
        self.failed.append(name)
        self.show(log)


def run_logged(argv, log, timeout, env=None, cwd=None):
    """Runs to a log file; (status or None if it took too long, seconds)."""
    begun = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, env=env, cwd=cwd, start_new_session=True)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            # unshare --kill-child takes everything inside the namespace with it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
            out.write(f"\n  FAILED: took over {timeout} s and was killed\n".encode())
    return status, time.monotonic() - begun


# -- end to end ---------------------------------------------------------------------------------


def scenarios(words):
    """(file, function, seconds it may take), by reading the files, in their order."""
    found = []
    for path in sorted((TESTS / "e2e").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                name = f"{path.stem}.{node.name.removeprefix('test_')}"
                if words and not any(word in name for word in words):
                    continue
                timeout = 60
                for decorator in node.decorator_list:
                    for keyword in getattr(decorator, "keywords", []):
                        if keyword.arg == "timeout":
                            timeout = keyword.value.value
                found.append((path, node.name, name, timeout))
    return found


def run_e2e(report, words, _jobs):
    for path, function, name, timeout in scenarios(words):
        log = LOGS / "e2e" / f"{name}.log"
        argv = UNSHARE + [PYTHON, TESTS / "inside.py", path, function]

        def attempt(argv=argv, log=log, timeout=timeout):
            status, seconds = run_logged(argv, log, timeout)
            return status == 0, seconds, log, ""

        report.judge(f"e2e {name}", attempt)


# -- C programs, on the kernel and on onwire ------------------------------------------------------


def build_c_tests(report):
    """Compiles c-tests/*.c beside each other; the names that compiled."""
    out = ROOT / "target" / "c-tests"
    out.mkdir(parents=True, exist_ok=True)

    def compile_one(source):
        log = LOGS / "c" / f"{source.stem}.build.log"
        binary = out / source.stem
        newest = max(source.stat().st_mtime, (source.parent / "common.h").stat().st_mtime)
        if binary.exists() and binary.stat().st_mtime > newest:
            return source.stem, 0, 0.0, log
        argv = ["cc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
                # Wrong arguments are what these programs are about.
                "-Wno-stringop-overflow", "-Wno-stringop-overread", "-Wno-nonnull",
                "-Wno-restrict", "-D_FORTIFY_SOURCE=2", "-o", binary, source, "-pthread", "-ldl"]
        return source.stem, *run_logged(argv, log, 60), log

    good = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, status, seconds, log in pool.map(compile_one, sorted((ROOT / "c-tests").glob("*.c"))):
            if status == 0:
                good.append(name)
            else:
                report.add(f"c {name} (compiling)", False, seconds, log)
    return out, good


def run_c(report, words, _jobs):
    out, names = build_c_tests(report)
    for name in names:
        if words and not any(word in name for word in words):
            continue
        report.judge(f"c {name}", lambda program=out / name: run_c_test(program))


def run_c_test(program):
    """One program on the kernel and on the stack: (equal, seconds, log, note)."""
    import harness

    begun = time.monotonic()
    kernel, stack, paths, verdict = (
        LOGS / "c" / f"{program.name}.{kind}" for kind in ("kernel", "onwire", "paths", "log"))
    paths.unlink(missing_ok=True)
    run = [TESTS / "world.sh", program]
    on_kernel, _ = run_logged(UNSHARE + run, kernel, 90)
    environment = {**os.environ, "CTEST_PATHS": str(paths), "ONWIRE_TCP_TIME_WAIT_MS": "60000"}
    run = [TESTS / "world.sh", harness.ONWIRE, "run", "--quiet", "--loopback", "stack", "--", program]
    on_stack, _ = run_logged(UNSHARE + run, stack, 90, env=environment)
    took = paths.read_text().split() if paths.exists() else []
    problems = compare_c(program.name, kernel, stack, on_kernel, on_stack, took)
    verdict.write_text("\n".join(problems) + "\n")
    note = f"{took.count('stack')} sockets checked on the stack" if took else ""
    return not problems, time.monotonic() - begun, verdict, note


def compare_c(name, kernel, stack, on_kernel, on_stack, took):
    """What is wrong with the two runs, in lines; nothing if they are equal."""
    problems = []
    if on_kernel != 0:
        problems.append(f"on the kernel {name} ended with {on_kernel}: the test itself is broken")
    if on_stack != on_kernel:
        problems.append(f"under onwire {name} ended with {on_stack}")
    listed = expected_difference(name)
    found = difference([], kernel, stack)
    if [line for line in found if line[:1] in "<>"] != listed:
        problems += ["the outputs differ (- kernel, + onwire):"]
        problems += difference(["-U2"], kernel, stack)[2:60]
        if listed:
            problems += [f"which is not what c-tests/expected/{name}.diff says (< kernel, > onwire)"]
    if "stack" not in took:
        problems.append("no socket was seen on the stack: the run proves nothing")
    if "kernel" in took:
        problems.append(f"{took.count('kernel')} sockets fell to the kernel")
    return problems


def difference(flags, kernel, stack):
    done = subprocess.run(["diff", *flags, kernel, stack], capture_output=True, text=True,
                          errors="replace")
    return done.stdout.splitlines()


def expected_difference(name):
    """The lines of diff(1) that DEVIATIONS.md explains; # begins the reason."""
    path = ROOT / "c-tests" / "expected" / f"{name}.diff"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line[:1] in ("<", ">")]


# -- published suites -------------------------------------------------------------------------------


def run_suite(module):
    def run(report, words, jobs):
        sys.path.insert(0, str(TESTS / "suites"))
        __import__(module).run(report, words, jobs, LOGS / module, UNSHARE + [str(TESTS / "world.sh")])

    return run


def run_nic(report, words, jobs):
    sys.path.insert(0, str(TESTS / "nic"))
    import suite

    suite.run(report, words, jobs, LOGS / "nic")


SUITES = {"c": run_c, "e2e": run_e2e, "python": run_suite("cpython"), "crates": run_suite("crates"),
          "nic": run_nic, "instructions": run_suite("instructions")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)} [default: c e2e]")
    parser.add_argument("-k", dest="words", action="append", default=[],
                        help="only tests whose name contains this; may be repeated")
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(name for _, _, name, _ in scenarios(arguments.words)))
        return 0
    for suite in arguments.suites:
        if suite not in SUITES:
            parser.error(f"no suite {suite}; there are {', '.join(SUITES)}")
    if os.geteuid() != 0:
        parser.error("these tests make network namespaces: run them as root")
    if not shutil.which("unshare"):
        parser.error("unshare is missing: apt-get install util-linux")
    report = Report(sys.stdout.isatty())
    for suite in arguments.suites or ["c", "e2e"]:
        SUITES[suite](report, arguments.words, arguments.jobs)
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / f"{'-'.join(arguments.suites) or 'default'}.count").write_text(
        f"{report.passed} {len(report.failed)}\n")
    for name in report.repeated:
        print(f"run twice: {name}")
    for name in report.failed:
        print(f"failed: {name}")
    print(f"{report.passed} passed, {len(report.failed)} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""CPython's own socket tests, on the kernel and with `--loopback stack`, compared case by case."""

import concurrent.futures
import pathlib
import re
import tempfile
import time

import carried
import compare

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
# (module, further flags, seconds). test_socketserver asks for the resource "network", which here
# is no more than the loopback interface.
MODULES = [
    ("test_socket", [], 240),
    ("test_selectors", [], 120),
    ("test_epoll", [], 60),
    ("test_poll", [], 90),
    ("test_select", [], 60),
    ("test_socketserver", ["-u", "network"], 90),
    ("test_httplib", [], 90),
]
RESULT = re.compile(r"\b(ok|FAIL|ERROR|skipped|expected failure)\b")


def cases(text):
    """{case: result} of unittest's verbose output.

    Whatever a test prints comes between its name and its result; the result is the first of the
    known words after the dots. Errors outside a case (setUpClass) have no such line.
    """
    results = {}
    starts = list(re.finditer(r"^(test\w*) \(([\w.]+)\)", text, re.M))
    for start, following in zip(starts, starts[1:] + [None]):
        body = text[start.end():following.start() if following else len(text)]
        body = body.split("\n======", 1)[0]
        dots = body.find("... ")
        if dots < 0:
            continue
        found = RESULT.search(body, dots)
        name = start[2].removeprefix("test.")
        if not name.endswith(start[1]):
            name += "." + start[1]
        results.setdefault(name, found[1] if found else "did not end")
    return results


def run_module(world, module, flags, timeout, log, prefix, env=None):
    import run

    # Folders of its own: regrtest names them by process id, which is the same in two namespaces.
    with tempfile.TemporaryDirectory(prefix="onwire-cpython-") as folder:
        argv = world + prefix + [PYTHON, "-m", "test", module, "-v", "-i", "*VSOCK*",
                                 "--tempdir", folder, *flags]
        status, seconds = run.run_logged(argv, log, timeout, env=env, cwd=folder)
    return status, seconds, cases(log.read_text(errors="replace"))


def run(report, words, jobs, logs, world):
    import harness

    prefix = [harness.ONWIRE, "run", "--quiet", "--loopback", "stack", "--"]
    modules = [one for one in MODULES if not words or any(word in one[0] for word in words)]

    def both(one):
        module, flags, timeout = one
        begun = time.monotonic()
        kernel_log, log = logs / f"{module}.kernel.log", logs / f"{module}.onwire.log"
        counters = [carried.Carried(logs / f"{module}.counters-{kind}", harness.ONWIRE)
                    for kind in ("kernel", "onwire")]
        _, _, kernel = run_module(world, module, flags, timeout, kernel_log, [],
                                  counters[0].environment())
        status, _, stack = run_module(world, module, flags, timeout, log, prefix,
                                      counters[1].environment())
        problems, compared, differing = compare.judge(
            kernel, stack, compare.expected(HERE / "cpython-expected.txt"))
        differences = len(problems)
        unproved, figures = carried.judge(*counters)
        problems += unproved
        if compared == 0:
            problems.append(f"no case passed on the kernel: see {kernel_log}")
        if status is None:
            problems.append(f"under onwire {module} did not end within {timeout} s")
        verdict = logs / f"{module}.log"
        verdict.write_text("\n".join(problems) + "\n")
        note = (f"{compared} cases, {compared - differing - differences} equal, "
                f"{differing} differ as listed; {figures}")
        return not problems, time.monotonic() - begun, verdict, note

    with concurrent.futures.ThreadPoolExecutor(max(1, min(jobs, 2))) as pool:
        for one, first in zip(modules, pool.map(both, modules)):
            report.judge(f"python {one[0]}", lambda one=one: both(one), first)

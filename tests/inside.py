#!/usr/bin/python3
"""Runs one scenario inside namespaces that tests/run.py made: `inside.py FILE FUNCTION`.

As process 1 of its namespace it only reaps; its child is the scenario.
"""

import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "e2e")]
sys.dont_write_bytecode = True
import harness  # noqa: E402


def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare_world():
    """A loopback interface, and settings that are not the machine's."""
    for name in [name for name in os.environ if name.startswith("ONWIRE_")]:
        del os.environ[name]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def run_scenario(path, name):
    prepare_world()
    function = getattr(load(path), name)
    test = harness.Test(name.removeprefix("test_"))
    try:
        function(test)
        test.end()
        if not getattr(function, "skip_leftovers", False):
            test.nothing_left()
        test.clean()
        return 0
    except harness.Failed as failure:
        print(f"  FAILED: {failure}", flush=True)
    except Exception:
        traceback.print_exc()
    test.end()
    test.show_logs()
    return 1


def main():
    path, name = sys.argv[1:]
    # A shell's background job ignores Ctrl-C, and programs inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = run_scenario(path, name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    while True:
        pid, status = os.wait()
        if pid == child:
            sys.exit(os.waitstatus_to_exitcode(status) != 0)


main()

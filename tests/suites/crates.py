"""The published tests of tokio, polling and async-io, on the kernel and with `--loopback stack`.

The sources come from crates.io (their packages include the tests) into a scratch folder outside
the repository, are built once as one workspace, and each test binary is run on both sides; the
results are compared test by test.

`polling` talks to the kernel through rustix, whose default backend makes system calls by itself,
which no library can interpose; it is built with rustix's libc backend, as a distribution may do.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import carried
import compare

HERE = pathlib.Path(__file__).resolve().parent
SCRATCH = pathlib.Path(os.environ.get("TESTS_SCRATCH", "/var/tmp/onwire-suites"))
CRATES = {"tokio": "1.54.1", "polling": "3.11.0", "async-io": "2.6.0"}
TOKIO_TESTS = re.compile(r"^(tcp_.*|udp|net_.*|io_.*)\.rs$")
SECONDS = 60  # one test binary


def fetch():
    """Has cargo download what is missing; the workspace's folder."""
    workspace = SCRATCH / "ws"
    workspace.mkdir(parents=True, exist_ok=True)
    missing = {name: version for name, version in CRATES.items()
               if not (workspace / f"{name}-{version}").exists()}
    if missing:
        seed = SCRATCH / "seed"
        (seed / "src").mkdir(parents=True, exist_ok=True)
        (seed / "src" / "lib.rs").touch()
        wanted = "\n".join(f'{name} = "={version}"' for name, version in CRATES.items())
        (seed / "Cargo.toml").write_text(
            '[package]\nname = "seed"\nversion = "0.0.0"\nedition = "2021"\n\n'
            f"[dependencies]\n{wanted}\n\n[workspace]\n")
        vendored = SCRATCH / "vendored"
        subprocess.run(["cargo", "vendor", "-q", "--versioned-dirs", str(vendored)], cwd=seed,
                       check=True, stdout=subprocess.DEVNULL, timeout=300)
        for name, version in missing.items():
            shutil.copytree(vendored / f"{name}-{version}", workspace / f"{name}-{version}")
            # Vendored packages carry a checksum of every file, which a path dependency has not.
            (workspace / f"{name}-{version}" / ".cargo-checksum.json").unlink(missing_ok=True)
    members = [f"{name}-{version}" for name, version in CRATES.items()]
    patches = "\n".join(f'{name} = {{ path = "{name}-{version}" }}'
                        for name, version in CRATES.items())
    text = (f"[workspace]\nresolver = \"2\"\nmembers = {json.dumps(members)}\n\n"
            f"[patch.crates-io]\n{patches}\n\n"
            "[profile.dev]\ndebug = 0\nincremental = false\n")
    manifest = workspace / "Cargo.toml"
    if not manifest.exists() or manifest.read_text() != text:
        manifest.write_text(text)
    return workspace


def build(workspace, log, jobs):
    """Builds every test once; {name: binary}."""
    version = CRATES["tokio"]
    names = sorted(path.stem for path in (workspace / f"tokio-{version}" / "tests").iterdir()
                   if TOKIO_TESTS.match(path.name))
    tokio = [word for name in names for word in ("--test", name)]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(SCRATCH / "target"),
                   "RUSTFLAGS": "--cfg rustix_use_libc"}
    binaries = {}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as errors:
        for flags in (["-p", "tokio", "--features", "full", *tokio], ["-p", "polling", "--tests"],
                      ["-p", "async-io", "--tests"]):
            argv = ["cargo", "test", "--no-run", "--message-format", "json", "-j", str(jobs), *flags]
            done = subprocess.run(argv, cwd=workspace, env=environment, stdout=subprocess.PIPE,
                                  stderr=errors, text=True, timeout=900, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                raise RuntimeError(f"the crates' tests do not build: see {log}")
            for line in done.stdout.splitlines():
                artifact = json.loads(line)
                if artifact.get("executable") and artifact.get("profile", {}).get("test"):
                    package = flags[1]
                    binaries[f"{package}:{artifact['target']['name']}"] = artifact["executable"]
    return binaries


RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (.*)$", re.M)


def cases(text):
    results = {}
    for name, rest in RESULT.findall(text):
        word = re.search(r"\b(ok|FAILED|ignored)\b", rest)
        results[name] = {"ignored": "skipped"}.get(word[1], word[1]) if word else "did not end"
    return results


def run(report, words, jobs, logs, world):
    import harness
    import run as runner

    begun = time.monotonic()
    try:
        binaries = build(fetch(), logs / "build.log", jobs)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        (logs / "build.failure").write_text(f"{error}\n")
        report.add("crates (fetching and building)", False, time.monotonic() - begun,
                   logs / "build.failure")
        return
    report.add("crates (fetching and building)", True, time.monotonic() - begun, None,
               f"{len(binaries)} test programs")
    reasons = compare.expected(HERE / "crates-expected.txt")
    prefix = [harness.ONWIRE, "run", "--quiet", "--loopback", "stack", "--"]

    def both(item):
        name, binary = item
        begun = time.monotonic()
        folder = pathlib.Path(binary).parent
        safe = name.replace(":", ".")
        kernel_log, log = logs / f"{safe}.kernel.log", logs / f"{safe}.onwire.log"
        # One test at a time: printed results then name the test that hung.
        flags = ["--test-threads", "1"]
        counters = [carried.Carried(logs / f"{safe}.counters-{kind}", harness.ONWIRE)
                    for kind in ("kernel", "onwire")]
        runner.run_logged(world + [binary, *flags], kernel_log, SECONDS, cwd=folder,
                          env=counters[0].environment())
        status, _ = runner.run_logged(world + prefix + [binary, *flags], log, SECONDS, cwd=folder,
                                      env=counters[1].environment())
        kernel, stack = (cases(path.read_text(errors="replace")) for path in (kernel_log, log))
        problems, compared, differing = compare.judge(
            {f"{name}/{case}": result for case, result in kernel.items()},
            {f"{name}/{case}": result for case, result in stack.items()}, reasons)
        if status is None and not differing:
            problems.append(f"under onwire it did not end within {SECONDS} s")
        unproved, figures = carried.judge(*counters)
        problems += unproved
        verdict = logs / f"{safe}.log"
        tail = log.read_text(errors="replace")[-1500:] if problems else ""
        verdict.write_text("\n".join(problems) + f"\n{tail}\n")
        note = f"{compared} tests, {differing} differ as listed; {figures}"
        return not problems, time.monotonic() - begun, verdict, note

    chosen = [item for item in sorted(binaries.items())
              if not words or any(word in item[0] for word in words)]
    with concurrent.futures.ThreadPoolExecutor(max(1, min(jobs, 2))) as pool:
        for one, first in zip(chosen, pool.map(both, chosen)):
            report.judge(f"crates {one[0]}", lambda one=one: both(one), first)

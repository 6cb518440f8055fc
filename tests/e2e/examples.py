"""What a user copies: the units and the pod in examples/."""

import re
import shutil

from harness import ONWIRE, ROOT, check, scenario

EXAMPLES = ROOT / "examples"


def options(text):
    """The options that a file gives to `onwire run`."""
    return set(re.findall(r"(?<= )--[a-z]+(?= )", text.split("onwire run", 1)[-1].split(" -- ")[0]))


@scenario(timeout=60)
def test_the_units_are_understood_by_systemd(t):
    """As far as `systemd-analyze verify` can tell where nothing of it is installed."""
    if not shutil.which("systemd-analyze"):
        t.note("SKIPPED: there is no systemd-analyze here; the units are not verified")
        return
    # Every program that they start exists for the time being, and a template has an instance.
    units = t.tmp / "units"
    units.mkdir()
    for path in EXAMPLES.glob("*.service"):
        text = re.sub(r"(?<==)/usr/(local/)?bin/\S+", "/bin/true", path.read_text())
        (units / path.name).write_text(text)
    names = [path.name for path in units.iterdir()]
    check(len(names) == 2, f"units: {names}")
    # Only what is in our folder, and what it needs of the system's.
    env = {"SYSTEMD_UNIT_PATH": f"{units}:/lib/systemd/system"}
    t.run(["systemd-analyze", "verify", "--man=no", *(units / name for name in names)],
          status=None, env=env)
    said = [line for line in t.last.stderr.splitlines() if any(name in line for name in names)]
    check(t.last.returncode == 0 and not said, f"status {t.last.returncode}: {t.last.stderr}")


@scenario(timeout=60)
def test_the_pod_is_yaml_and_asks_for_what_the_device_needs(t):
    try:
        import yaml
    except ImportError:
        t.note("SKIPPED: there is no python3-yaml here; the pod is not parsed")
        return
    pod = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())
    check((pod["apiVersion"], pod["kind"]) == ("v1", "Pod"), f"{pod}")
    container, = pod["spec"]["containers"]
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    check(limits == requests, "hugepages and devices are not overcommitted")
    check({"intel.com/vfio", "hugepages-2Mi", "memory"} <= set(limits), f"{limits}")
    capabilities = container["securityContext"]["capabilities"]
    check(capabilities == {"drop": ["ALL"], "add": ["IPC_LOCK"]}, f"{capabilities}")
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    check(mounts == volumes, f"mounts {mounts}, volumes {volumes}")
    command, = container["args"]
    check("$PCIDEVICE_INTEL_COM_VFIO" in command, command)


@scenario(timeout=60)
def test_the_command_has_the_options_that_they_give(t):
    known = t.run([ONWIRE, "run", "--help"])
    for path in (EXAMPLES / "kubernetes.yaml", EXAMPLES / "redis-onwire.service"):
        given = options(path.read_text())
        check("--device" in given, f"{path.name}: {given}")
        for option in given:
            check(option in known, f"{path.name} gives {option}, which onwire run does not know")

"""Comparing one test suite's results on the kernel and under onwire.

A suite passes if every case that passes on the kernel passes under onwire, save for those that its
file of expected differences names, each with a reason. A line of that file is `case  reason`; a
case that is listed and passes after all is a failure too, so that the list stays true.
"""


def expected(path):
    """{case or prefix ending in *: reason}"""
    reasons = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            case, _, reason = line.partition(" ")
            if not reason.strip():
                raise SystemExit(f"{path}: {case} has no reason")
            reasons[case] = reason.strip()
    return reasons


def reason_for(case, reasons):
    for name, reason in reasons.items():
        if case == name or (name.endswith("*") and case.startswith(name[:-1])):
            return name, reason
    return None, None


def judge(kernel, stack, reasons):
    """(lines about what is wrong, number compared, number of expected differences).

    `kernel` and `stack` are {case: "ok" | "skipped" | anything else}.
    """
    problems, compared, differing, used = [], 0, 0, set()
    for case, result in sorted(kernel.items()):
        name, reason = reason_for(case, reasons)
        if result != "ok":
            continue
        compared += 1
        got = stack.get(case, "did not run")
        if got == "ok":
            continue
        if reason:
            differing += 1
            used.add(name)
        else:
            problems.append(f"{case}: ok on the kernel, under onwire: {got}")
    for name in reasons:
        ran = [case for case in kernel if reason_for(case, {name: ""})[0]]
        if ran and name not in used:
            problems.append(f"{name}: is listed as an expected difference but passes now")
    return problems, compared, differing

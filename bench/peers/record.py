"""What every comparison writes down: when, what, on which machine, and how often."""
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# The short form of everything has a directory of its own: it is to replace no result of a longer run.
RESULTS = os.environ.get("BENCH_RESULTS") or os.path.join(os.path.dirname(HERE), "results")
TOP = os.path.dirname(os.path.dirname(HERE))


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "unknown")
    hypervisor = output("systemd-detect-virt", "--vm") or "unknown"
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "virtualization": hypervisor}


def header():
    """When, what and where. Of a tree with changes nobody else has the commit is no answer: that is said."""
    commit = output("git", "-C", TOP, "describe", "--always")
    # Results themselves may have been written meanwhile.
    if commit and output("git", "-C", TOP, "status", "--porcelain", "--untracked-files=no", "--", TOP,
                         f":(exclude){RESULTS}"):
        commit += "-dirty"
    if commit is None or commit.endswith("-dirty"):
        print(f"NOTE: measured from a tree that is not what its commit says ({commit}): "
              "commit first for results that others can measure again", file=sys.stderr)
    return {"date": datetime.date.today().isoformat(), "commit": commit, "machine": machine(), "load": os.getloadavg()[0]}


def package_version(name):
    return output("dpkg-query", "-W", "-f", "${Version}", name)


def summary(samples):
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "samples": samples}


def interval(values):
    """Of the median, with a confidence of 95 % or more where there are values enough (order statistics)."""
    count = len(values)
    below, rank = 0.0, 0
    while rank < count // 2 and below + math.comb(count, rank) / 2**count <= 0.025:
        below += math.comb(count, rank) / 2**count
        rank += 1
    rank = max(rank - 1, 0)
    return sorted(values)[rank], sorted(values)[count - 1 - rank]


def path_of(name, directory=RESULTS):
    return os.path.join(directory, f"{datetime.date.today()}-{name}.json")


def read(name, directory=RESULTS):
    """What was written today under this name; nothing: an empty record."""
    try:
        with open(path_of(name, directory)) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def write(name, record, directory=RESULTS):
    os.makedirs(directory, exist_ok=True)
    path = path_of(name, directory)
    told = {**header(), **record}
    with open(path, "w") as file:
        json.dump(told, file, indent=1)
        file.write("\n")
    return os.path.relpath(path)


def release_program(name):
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(TOP, "target"))
    path = os.path.join(target, "release", name)
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is not there: cargo build --release -p vrouter-bench --bins")
    return path

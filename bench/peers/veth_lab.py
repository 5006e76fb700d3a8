"""Two veth pairs with a router's namespace between them, a generator and a counting sink.

    vrb-gen                 vrb-router (core 0)              vrb-sink
    +--------------+  veth  +---------------------+  veth  +------------------+
    | g0 generator |--------| a0              b0  |--------| s0 counts, drops |
    | (core 1)     |        | 10.9.0.1   10.9.1.1 |        | 10.9.1.2         |
    +--------------+        +---------------------+        +------------------+
"""
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIVE_FRAMES = os.path.join(os.path.dirname(HERE), "live_frames.py")
NAMESPACES = ("vrb-gen", "vrb-router", "vrb-sink")
ROUTER_CORE, GENERATOR_CORE = 0, 1
GEN_ADDRESS, SINK_ADDRESS = "10.9.0.2", "10.9.1.2"
UPLINKS = (("a0", "10.9.0.1/24"), ("b0", "10.9.1.1/24"))
# On a machine that does other work too, the measured programs go before it: alike for both routers.
CPU_GROUP = "vrb"


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def inside(namespace, *command):
    return ["ip", "netns", "exec", namespace, *command]


def write_sysfs(namespace, path, value):
    # /sys shows the devices of the namespace it was mounted in, which `ip netns exec` does.
    run(*inside(namespace, "sh", "-c", f"echo {value} > {path}"))


class CpuGroup:
    """A cgroup whose members get nearly all of the time of the cores they run on."""

    def __init__(self):
        self.path = None
        for line in open("/proc/mounts"):
            _, mount, kind, flags = line.split()[:4]
            if kind == "cgroup" and "cpu" in flags.split(","):
                self.make(mount, "cpu.shares", 262144)
            elif kind == "cgroup2" and not self.path:
                self.make(mount, "cpu.weight", 10000)

    def make(self, mount, file, weight):
        path = os.path.join(mount, CPU_GROUP)
        try:
            if file == "cpu.weight":
                open(os.path.join(mount, "cgroup.subtree_control"), "w").write("+cpu")
            os.makedirs(path, exist_ok=True)
            open(os.path.join(path, file), "w").write(str(weight))
            self.path = path
        except OSError:
            # No such controller here: the machine has to be idle then.
            pass

    def add(self, pid):
        if self.path:
            open(os.path.join(self.path, "cgroup.procs"), "w").write(str(pid))

    def remove(self):
        if self.path:
            os.rmdir(self.path)

    def leave(self):
        """Takes the calling process out again, and the group away if nobody else is in it."""
        if self.path:
            open(os.path.join(os.path.dirname(self.path), "cgroup.procs"), "w").write(str(os.getpid()))
            try:
                self.remove()
            except OSError:
                pass


class Lab:
    """The three namespaces, the generator and the sink."""

    def __init__(self, sink_kind="xdp"):
        self.sink_kind = sink_kind

    def __enter__(self):
        self.remove()
        self.group = CpuGroup()
        for namespace in NAMESPACES:
            run("ip", "netns", "add", namespace)
            run(*inside(namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"))
        for (near, near_ns), (far, far_ns) in ((("g0", "vrb-gen"), ("a0", "vrb-router")),
                                               (("b0", "vrb-router"), ("s0", "vrb-sink"))):
            run("ip", "link", "add", near, "numtxqueues", "1", "numrxqueues", "1", "netns", near_ns,
                "type", "veth", "peer", "name", far, "numtxqueues", "1", "numrxqueues", "1", "netns", far_ns)
        for namespace, device, address in (("vrb-gen", "g0", GEN_ADDRESS + "/24"),
                                           ("vrb-router", *UPLINKS[0]), ("vrb-router", *UPLINKS[1]),
                                           ("vrb-sink", "s0", SINK_ADDRESS + "/24")):
            run("ip", "-n", namespace, "addr", "add", address, "dev", device)
            run("ip", "-n", namespace, "link", "set", device, "up")
        # A veth takes redirected frames only while its peer has a NAPI instance.
        for device in ("a0", "b0"):
            run(*inside("vrb-router", "ethtool", "-K", device, "gro", "on"))
        run(*inside("vrb-router", "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        run("ip", "-n", "vrb-sink", "route", "add", "10.9.0.0/24", "via", "10.9.1.1")
        self.mac = json.loads(run("ip", "-n", "vrb-router", "-j", "link", "show", "a0"))[0]["address"]
        self.sink = subprocess.Popen(
            inside("vrb-sink", sys.executable, LIVE_FRAMES, "sink", "s0",
                   self.sink_kind),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.sink.stdout.readline().strip() != "ready":
            raise SystemExit("the sink did not start")
        self.generator = None
        self.favour_softirq(-20)
        return self

    def __exit__(self, *_):
        self.stop_generator()
        self.favour_softirq(0)
        self.sink.stdin.close()
        self.sink.wait()
        self.remove()
        self.group.remove()

    @staticmethod
    def remove():
        for namespace in NAMESPACES:
            run("ip", "netns", "del", namespace, check=False)

    @staticmethod
    def favour_softirq(nice):
        # These threads are bound to their cores and cannot join a cgroup.
        for pid in kernel_threads("ksoftirqd/"):
            run("renice", str(nice), pid)

    def count(self):
        self.sink.stdin.write("\n")
        self.sink.stdin.flush()
        packets, at = self.sink.stdout.readline().split()
        return int(packets), int(at)

    def start_generator(self, size):
        command = [sys.executable, LIVE_FRAMES, "generate", "g0", self.mac,
                   GEN_ADDRESS, SINK_ADDRESS, str(size - 4)]
        self.generator = subprocess.Popen(
            inside("vrb-gen", "taskset", "-c", str(GENERATOR_CORE), *command),
            preexec_fn=lambda: self.group.add(0))

    def stop_generator(self):
        if self.generator and self.generator.poll() is None:
            self.generator.send_signal(signal.SIGKILL)
            self.generator.wait()
        self.generator = None

    def rate(self, warmup, seconds):
        """Millions of packets a second that reach the sink."""
        time.sleep(warmup)
        before, start = self.count()
        time.sleep(seconds)
        after, end = self.count()
        return (after - before) * 1000 / (end - start)

    def thread_receive(self, namespace, device, core):
        """Makes the receive processing of a device a kernel thread on a core; None: undoes it."""
        write_sysfs(namespace, f"/sys/class/net/{device}/threaded", int(core is not None))
        for pid in kernel_threads(f"napi/{device}-") if core is not None else ():
            run("taskset", "-pc", str(core), pid)
            self.group.add(pid)

    def place_receive(self, place):
        """Puts the receive processing of a0 on the router's or on the generator's core."""
        self.thread_receive("vrb-router", "a0", ROUTER_CORE if place == "router" else None)
        mask = 0 if place == "router" else 1 << ROUTER_CORE
        write_sysfs("vrb-router", "/sys/class/net/a0/queues/rx-0/rps_cpus", f"{mask:x}")


def kernel_threads(prefix):
    """Ids of the kernel threads whose name begins so."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and open(f"/proc/{entry}/comm").read().startswith(prefix):
                found.append(entry)
        except OSError:
            # It ended meanwhile.
            continue
    return found

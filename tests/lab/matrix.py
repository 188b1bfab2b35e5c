#!/usr/bin/python3
"""matrix.py OMK - containerd 1.6, 1.7 and 2.1 x root, sudo, sudo with a password x fresh, delta, verify, resume, rollback, as a table.

Each cell is a preheat by the program OMK (target/release/omk) of a lab node that has nothing (fresh), the release before
(delta), or a large blob in part, whose sender was killed (resume). A cell is only printed as good when omk said that the node is
ready, the bytes sent are those that they have to be, `ctr images check` agrees on every name, staging is empty, and a container of
every image ran on the node by tag and by digest. The registry is off from the first preheat on. As root; takes some minutes.

verify: `omk node verify --deep` finds nothing wrong; then a tag is removed and a layer's file is damaged on the node; it names both,
and --repair mends them. rollback: every run is undone, the newest first, and after each the node's names with their labels, its blobs
and its snapshots are to be what they were before that run.

  --containerd 1.7=DIR   where bin/containerd of a version is; others are fetched (get-containerd.sh)
  --only 1.6             one version; may be given more than once
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SUITES = {"1.6": None, "1.7": "trixie", "2.1": "sid"}
LOGINS = {"root": "root", "sudo": "omk", "sudo with password": "omkpw"}
SET = ["tool:2", "zstd:1", "docker2:1"]
BIG_MB = 48


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"matrix.py: {' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Lab:
    """A lab of its own, beside others on this machine."""

    def __init__(self, folder, binaries=None):
        self.folder = folder / "lab"
        own = {"DIR": self.folder, "TAG": "omkmx", "BRIDGE": "omkmxbr", "NET": "10.98.1", "PORT_PLAIN": 5980,
               "PORT_AUTH": 5981, "PORT_TLS": 5982, "CTD": binaries or ""}
        self.env = {**os.environ, **{f"OMK_LAB_{k}": str(v) for k, v in own.items()}}
        self.registry = "127.0.0.1:5980"

    def sh(self, *args):
        # Into a file: the daemons that outlive the script would keep a pipe open.
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run([HERE / "lab.sh", *args], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            log.seek(0)
            if done.returncode:
                sys.exit(f"matrix.py: lab.sh {' '.join(args)}: {log.read()}")

    def node(self, number, *command):
        return run(HERE / "lab.sh", "exec", number, *command, env=self.env)

    def status(self, number, *command):
        """What a container prints can be lost when it ends at once; its status cannot."""
        return subprocess.run([HERE / "lab.sh", "exec", str(number), *command], env=self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


class Bundles:
    """Built once, with a registry that is gone afterwards."""

    def __init__(self, omk, folder):
        self.omk, self.folder = omk, folder
        lab = Lab(folder)
        lab.sh("registry", "up")
        try:
            names = [f"lab/{n}" for n in ["base:1", "web:1.0", "web:1.1", *SET, "big:1"]]
            run(HERE / "images.py", "push", lab.registry, "--big-mb", BIG_MB, "--only", *names)
            for name, images in {"fresh": ["web:1.0", *SET], "delta": ["web:1.1", *SET], "resume": ["big:1"]}.items():
                chosen = [a for i in images for a in ("--image", f"{lab.registry}/lab/{i}")]
                run(omk, "bundle", "build", *chosen, "--plain-http", lab.registry, "-o", self.path(name), env=lab.env)
        finally:
            lab.sh("registry", "down")
        blobs = {name: self.blobs(name) for name in ("fresh", "delta")}
        self.sizes = {"fresh": sum(blobs["fresh"].values()),
                      "delta": sum(size for blob, size in blobs["delta"].items() if blob not in blobs["fresh"])}

    def path(self, name):
        return self.folder / f"{name}.tar"

    def images(self, name):
        return json.loads(run(self.omk, "bundle", "inspect", self.path(name), "-o", "json"))["images"]

    def blobs(self, name):
        """What a node of this machine's kind is sent, by digest."""
        listed = run("tar", "-tvf", self.path(name)).splitlines()
        return {f[5]: int(f[2]) for f in map(str.split, listed) if f[5].startswith("blobs/")}


def preheat(bundles, lab, user, number, bundle, *more, start=False):
    command = [bundles.omk, "preheat", bundles.path(bundle), "--nodes", lab.folder / f"inventory-{user}.yaml",
               "--known-hosts", lab.folder / "known_hosts", "--limit", f"node{number}", "-o", "json", *more]
    if start:
        return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
    report = json.loads(run(*command))
    return report["nodes"][0], report["run_id"]


def omk(bundles, lab, user, number, *words, code=0):
    """A command that prints JSON, and its exit code is to be this."""
    done = subprocess.run([str(w) for w in (bundles.omk, *words, "--nodes", lab.folder / f"inventory-{user}.yaml", "--known-hosts",
                           lab.folder / "known_hosts", "--limit", f"node{number}", "-o", "json")],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def state(lab, number):
    """What a rollback brings back."""
    ctr = ["ctr", "-n", "k8s.io"]
    time.sleep(1.5)  # CRI notes names up to a second later
    # An import leaves an index of its own, which nothing refers to; containerd takes it away when it comes to it, or is waited for.
    lab.node(number, *ctr, "leases", "create", "--id", "matrix")
    lab.node(number, *ctr, "leases", "delete", "--sync", "matrix")
    images = [line.split() for line in lab.node(number, *ctr, "images", "ls").splitlines()[1:] if "omk.invalid/bak/" not in line]
    snapshots = lab.node(number, *ctr, "snapshots", "ls").splitlines()[1:]
    return {"names": sorted((f[0], f[2], f[-1]) for f in images),
            "blobs": sorted(lab.node(number, *ctr, "content", "ls", "-q").split()), "snapshots": sorted(s.split()[0] for s in snapshots)}


def drift(bundles, lab, user, number):
    """A tag that is gone and a blob that is damaged, found and mended; what is told of it."""
    verify = lambda *more, **code: omk(bundles, lab, user, number, "node", "verify", bundles.path("delta"), "--deep", *more, **code)
    clean = verify()["nodes"][0]
    assert clean["state"] == "ready", clean
    tag = next(n for image in bundles.images("delta") for n in image["names"] if "/web:" in n)
    lab.node(number, "ctr", "-n", "k8s.io", "images", "rm", "--sync", tag)
    sizes = bundles.blobs("delta")
    layer = max(sizes, key=sizes.get).split("/")[-1]
    lab.node(number, "sh", "-c", f"f=$(find /var/lib/containerd -path '*/blobs/sha256/{layer}'); printf X | dd of=$f conv=notrunc status=none")
    told = json.dumps(verify(code=5))
    assert tag in told and layer in told, told
    before = state(lab, number)
    mended = verify("--repair")
    assert mended["nodes"][0]["state"] == "ready", mended
    assert verify()["nodes"][0]["state"] == "ready"
    return mended["run_id"], before, f"2 named, {amount(mended['nodes'][0]['bytes_sent'])} sent"


def undone(bundles, lab, user, number, runs):
    """All of them, the newest first."""
    for run_id, before in reversed(runs):
        report = omk(bundles, lab, user, number, "preheat", "rollback", "--run", run_id)
        after = state(lab, number)
        for what, had in before.items():
            more, less = [x for x in after[what] if x not in had], [x for x in had if x not in after[what]]
            assert not more and not less, (run_id, what, "left", more, "lost", less, report)
    return f"{len(runs)} runs"


def proved(bundles, lab, number, bundle, report):
    """The node's own word on everything that omk says."""
    assert report["state"] == "ready" and all(i["ready"] for i in report["images"]), report
    check = {line.split()[0]: line for line in lab.node(number, "ctr", "-n", "k8s.io", "images", "check").splitlines()}
    for image in bundles.images(bundle):
        for name in image["names"]:
            line = check.get(name, "")
            assert image["digest"] in line and " complete " in line and line.strip().endswith("true"), (name, line)
            ran = lab.status(number, "ctr", "-n", "k8s.io", "run", "--rm", name, "try", "sh", "-c", "exit 42")
            assert ran == 42, (name, ran)
    left = lab.node(number, "find", "/var/lib/omk/staging", "-type", "f", "!", "-name", ".omk-staging")
    assert not left, left


def amount(size):
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def cells(bundles, lab, user, number):
    """fresh, delta, verify, resume, rollback: what is told of each."""
    told, runs = [], []
    for bundle in ("fresh", "delta"):
        before = state(lab, number)
        report, run_id = preheat(bundles, lab, user, number, bundle)
        runs.append((run_id, before))
        assert report["bytes_sent"] == bundles.sizes[bundle], (report["bytes_sent"], bundles.sizes)
        proved(bundles, lab, number, bundle, report)
        told.append(f"{amount(report['bytes_sent'])} sent")
    run_id, before, cell = drift(bundles, lab, user, number)
    runs.append((run_id, before))
    told.append(cell)
    before = state(lab, number)
    sender = preheat(bundles, lab, user, number, "resume", "--node-bandwidth", "8MB/s", start=True)
    part = ["sh", "-c", "cat /var/lib/omk/staging/partial/* 2>/dev/null | wc -c"]
    end = time.monotonic() + 60
    while int(lab.node(number, *part)) < 20 << 20:
        assert sender.poll() is None and time.monotonic() < end, "the sender ended before it could be killed"
        time.sleep(0.1)
    sender.send_signal(signal.SIGKILL)
    sender.wait()
    report, run_id = preheat(bundles, lab, user, number, "resume")
    runs.append((run_id, before))
    sent, resumed = report["bytes_sent"], report["bytes_resumed"]
    assert resumed > 0 and sent < BIG_MB << 20, report
    proved(bundles, lab, number, "resume", report)
    told.append(f"{amount(sent)} sent, {amount(resumed)} resumed")
    told.append(undone(bundles, lab, user, number, runs))
    return told


def version(arguments, bundles, folder, name):
    binaries = arguments.get(name)
    if SUITES[name] and not binaries:
        out = folder / f"containerd-{name}"
        run(HERE / "get-containerd.sh", SUITES[name], out)
        binaries = out / "usr"
    lab = Lab(folder, binaries)
    lab.sh("up", str(len(LOGINS)))
    try:
        exact = lab.node(1, "containerd", "--version").split()[2]
        for number, (login, user) in enumerate(LOGINS.items(), 1):
            row = cells(bundles, lab, user, number)
            print(f"| {exact} | {login} | " + " | ".join(row) + " |", flush=True)
    finally:
        lab.sh("down")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("omk", type=pathlib.Path)
    parser.add_argument("--containerd", action="append", default=[], metavar="VERSION=DIR")
    parser.add_argument("--only", action="append", choices=SUITES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omk-matrix-") as folder:
        folder = pathlib.Path(folder)
        bundles = Bundles(arguments.omk.resolve(), folder)
        print("| containerd | login | fresh | delta | verify | resume | rollback |\n|---|---|---|---|---|---|---|", flush=True)
        for name in arguments.only or SUITES:
            version(dict(c.split("=", 1) for c in arguments.containerd), bundles, folder, name)
        count = len(bundles.images("fresh"))
        print(f"\nIn every cell all {count} images (resume: one) were ready and ran on the node by tag and by digest.")


if __name__ == "__main__":
    main()

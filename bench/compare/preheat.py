#!/usr/bin/env python3
"""`omk preheat` beside what people do by hand, on nodes of the lab, in one run. Needs root.

  preheat.py OMK [--only cold,shaped,patch,idle,many,fast] [--rounds 3] [--work DIR] [--nodes 50] [--containerd DIR]

Makes a set of eight images (about 300 MB packed, 900 MB unpacked) and a patch release of one of them out of programs of this
machine, once, in DIR (default /tmp/omk-bench); starts a lab; runs the peers and omk in turn, the node emptied before each,
and prints the median of the rounds, the processor time of the sender and of the node's containerd, and the ratio to the goal.

  cold    one stream       tar of the layout | ssh NODE ctr images import -
          pipelined        an image at a time with --no-unpack, index-only imports in a queue beside it
          scp              scp of the tar, then ctr images import there
  shaped  the same over 200 Mbit/s with 50 ms of round trip; raw: ssh NODE 'cat >/dev/null'; import: of a tar on the node
  patch   a release in which one small layer of one image is new, to a node that has the set
  idle    ten nodes that have everything        many   memory of the sender with many nodes (a small bundle)
  fast    --fast-import beside the import of gzip'd layers
The lab's own variables (OMK_LAB_DIR and so on, see tests/lab/README.md) choose where it runs. containerd's folder is in memory
(OMK_LAB_DISK, 4g where nothing is said): ext4 passes over the inodes of files that were deleted a moment ago, which was found to take up
to a third of containerd's processor time on a node that has just been emptied, at times more and at times less. With many nodes
they are on the disk.
"""
import argparse, gzip, hashlib, io, json, os, pathlib, queue, random, re, shutil, statistics, subprocess, sys, tarfile, threading, time

HERE = pathlib.Path(__file__).resolve().parents[2]
LAB = HERE / "tests/lab/lab.sh"
LAB_DIR = pathlib.Path(os.environ.get("OMK_LAB_DIR", "/tmp/omk-lab"))
OCI = "application/vnd.oci.image."
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
MIB = 1 << 20

# --- the set ---------------------------------------------------------------------------------------------------

LAYERS = {  # folders of this machine, and how many MiB of them
    "base": (["/usr/bin", "/usr/share/perl"], 90), "tools": (["/usr/lib/git-core", "/usr/share/i18n", "/usr/share/vim"], 70),
    "python": (["/usr/lib/python3.11", "/usr/lib/python3"], 90), "java": (["/usr/lib/jvm", "/usr/share/java"], 100),
    "postgres": (["/usr/lib/postgresql", "/usr/lib/x86_64-linux-gnu/perl", "/usr/share/locale"], 90),
    "gcc": (["/usr/lib/gcc"], 110), "llvm": (["/usr/lib/llvm-14", "/usr/lib/x86_64-linux-gnu"], 200), "fonts": (["/usr/share/man"], 40),
}
IMAGES = {"base": ["base"], "tools": ["base", "tools"], "python": ["base", "tools", "python"], "java": ["base", "tools", "java"],
          "postgres": ["base", "postgres"], "gcc": ["base", "tools", "gcc"], "llvm": ["llvm", "fonts"], "app": ["base", "tools", "python", "app1"]}


def files(folders, budget):
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            for name in sorted(names):
                path = os.path.join(place, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    size = os.path.getsize(path)
                    if size <= budget:
                        budget -= size
                        yield path


def entry(tar, path, data):
    info = tarfile.TarInfo(path.lstrip("/"))
    info.size, info.mode, info.mtime = len(data), 0o755, 1704067200
    tar.addfile(info, io.BytesIO(data))


def app(release):
    rnd, out = random.Random(7), []
    for i in range(400):
        body = "".join(f"VALUE_{n} = {rnd.random()}\n" for n in range(i % 90))
        out.append((f"app/m{i}.py", (body + ("FIXED = True\n" if release == 2 and i % 80 == 3 else "")).encode()))
    return out + [("app/static.bin", rnd.randbytes(3_000_000))]


class Set:
    """An OCI layout of its own for each of `set` and `patch`, and the same as one tar."""

    def __init__(self, work):
        self.root, self.images = work, {}
        self.layers = {}
        made = work / "made.json"
        if not made.exists():
            shutil.rmtree(work, ignore_errors=True)
            (work / "blobs/sha256").mkdir(parents=True)
            for name in [*LAYERS, "app1", "app2"]:
                self.layers[name] = self.layer(name)
                print(f"  layer {name}: {self.layers[name]['size'] / 1e6:.1f} MB", file=sys.stderr)
            for name, parts in IMAGES.items():
                self.images[f"bench.example/{name}:1"] = self.image(parts)
            patch = {"bench.example/app:2": self.image(["base", "tools", "python", "app2"])}
            small = {f"bench.example/small{i}:1": self.image(["app1" if i % 2 else "app2"]) for i in range(2)}
            made.write_text(json.dumps({"set": self.images, "patch": patch, "small": small}))
        self.made = json.loads(made.read_text())
        for kind, images in self.made.items():
            if not self.tar(kind).exists():
                with open(self.tar(kind), "wb") as out:
                    self.write(out, images, self.blobs(images))

    def put(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (self.root / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": OCI + kind, "digest": "sha256:" + digest, "size": len(data)}

    def layer(self, name):
        raw = self.root / "raw.tar"
        with tarfile.open(raw, "w", format=tarfile.GNU_FORMAT) as tar:
            if name.startswith("app"):
                for path, data in app(int(name[3:])):
                    entry(tar, path, data)
            else:
                for path in files(*[LAYERS[name][0], LAYERS[name][1] * MIB]):
                    entry(tar, path, pathlib.Path(path).read_bytes())
        diff = subprocess.run(["sha256sum", raw], check=True, capture_output=True, text=True).stdout.split()[0]
        packed = subprocess.run(["gzip", "-6nc", raw], check=True, capture_output=True).stdout
        unpacked = raw.stat().st_size
        raw.unlink()
        return self.put(packed, "layer.v1.tar+gzip") | {"diff": "sha256:" + diff, "unpacked": unpacked}

    def image(self, parts):
        layers = [self.layers[p] for p in parts]
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [l["diff"] for l in layers]}}
        config = self.put(json.dumps(config).encode(), "config.v1+json")
        layers = [{k: l[k] for k in ("mediaType", "digest", "size")} for l in layers]
        manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": layers}
        return {"manifest": self.put(json.dumps(manifest).encode(), "manifest.v1+json"), "blobs": [*layers, config]}

    def tar(self, kind):
        return self.root / f"{kind}.tar"

    @staticmethod
    def blobs(images):
        """Every blob once, in the order of the images."""
        return list({b["digest"]: b for i in images.values() for b in [*i["blobs"], i["manifest"]]}.values())

    def write(self, out, images, blobs):
        """A tar with an index of these images and these blobs; the way a pipeline by hand makes it."""
        index = [i["manifest"] | {"annotations": {"io.containerd.image.name": n, "org.opencontainers.image.ref.name": n}} for n, i in images.items()]
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": index}).encode()
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=MIB, copybufsize=MIB) as tar:
            for name, data in (("oci-layout", OCI_LAYOUT), ("index.json", index)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for blob in blobs:
                name = "blobs/sha256/" + blob["digest"].split(":")[1]
                with open(self.root / name, "rb") as data:
                    info = tarfile.TarInfo(name)
                    info.size = blob["size"]
                    tar.addfile(info, data)

    def size(self, images):
        return sum(b["size"] for b in self.blobs(images))


# --- the lab ---------------------------------------------------------------------------------------------------

def lab(*args, check=True):
    done = subprocess.run([LAB, *map(str, args)], capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"lab.sh {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


def node(i, script):
    return lab("exec", i, "sh", "-c", script)


def empty(i=1):
    """Nothing of ours is on the node, and nothing waits to be written."""
    node(i, "ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm --sync >/dev/null; rm -rf /var/lib/omk/* /var/tmp/set.tar")
    for _ in range(100):
        if not node(i, "ctr -n k8s.io content ls -q; ctr -n k8s.io snapshots ls | tail -n +2").strip():
            break
        node(i, "ctr -n k8s.io content ls -q | xargs -r ctr -n k8s.io content rm >/dev/null 2>&1; sleep 0.2; "
                "ctr -n k8s.io leases ls -q | xargs -r -n 1 ctr -n k8s.io leases rm --sync >/dev/null 2>&1; true")
    os.sync()


def ready(images, i=1):
    have = set(node(i, "ctr -n k8s.io images check -q").split())
    return [n for n in images if n not in have]


def cpu_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def containerd(i=1):
    """The daemon's process, as this machine numbers it."""
    top = (LAB_DIR / f"node{i}/pid").read_text().strip()
    space = os.readlink(f"/proc/{top}/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == space and pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "containerd":
                return int(pid)
        except OSError:
            pass
    sys.exit(f"preheat.py: no containerd on node{i}")


SSH = ["ssh", "-F", str(LAB_DIR / "ssh_config")]


class Run:
    """Wall time, the sender's processor time and peak memory, containerd's processor time of one way of doing it."""

    def __init__(self, work, i=1):
        daemon = containerd(i)
        before, mine, start = cpu_of(daemon), os.times(), time.monotonic()
        self.rss = work() or 0
        self.wall = time.monotonic() - start
        now = os.times()
        self.sender = sum(getattr(now, f) - getattr(mine, f) for f in ("user", "system", "children_user", "children_system"))
        self.node = cpu_of(daemon) - before


def piped(command, write):
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    write(process.stdin)
    process.stdin.close()
    if process.wait():
        sys.exit(f"preheat.py: {command} failed")


def by_stream(all, images):
    def work():
        feed = subprocess.Popen(["cat", all.tar("set")], stdout=subprocess.PIPE)
        subprocess.run([*SSH, "node1", "ctr -n k8s.io images import -"], stdin=feed.stdout, stdout=subprocess.DEVNULL, check=True)
    return work


def by_pipeline(all, images):
    def work():
        socket = str(LAB_DIR / "cm")
        master = subprocess.Popen([*SSH, "-M", "-N", "-S", socket, "node1"])
        while not os.path.exists(socket):
            time.sleep(0.01)
        ssh, arrived, sent = [*SSH, "-S", socket, "node1"], queue.Queue(), set()

        def importer():
            while (name := arrived.get()) is not None:
                piped([*ssh, "ctr -n k8s.io images import -"], lambda out: all.write(out, {name: images[name]}, []))
        beside = threading.Thread(target=importer)
        beside.start()
        for name, image in images.items():
            blobs = [b for b in all.blobs({name: image}) if b["digest"] not in sent]
            sent.update(b["digest"] for b in blobs)
            piped([*ssh, "ctr -n k8s.io images import --no-unpack -"], lambda out: all.write(out, {name: image}, blobs))
            arrived.put(name)
        arrived.put(None)
        beside.join()
        master.terminate()
        master.wait()
    return work


def by_scp(all, images):
    def work():
        subprocess.run(["scp", "-q", *SSH[1:], all.tar("set"), "node1:/var/tmp/set.tar"], check=True)
        subprocess.run([*SSH, "node1", "ctr -n k8s.io images import /var/tmp/set.tar && rm /var/tmp/set.tar"], stdout=subprocess.DEVNULL, check=True)
    return work


def by_omk(omk, bundle, *args, limit="node1", report=None, home=None):
    def work():
        command = [omk, "preheat", bundle, "--nodes", LAB_DIR / "inventory-root.yaml", "--known-hosts", LAB_DIR / "known_hosts", "-o", "json", *args]
        command += ["--limit", limit] if limit else []
        env = os.environ | {"OMK_PROGRESS": "none"} | ({"OMK_HOME": str(home)} if home else {})
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, env=env)
        # ru_maxrss of a child counts what this program had when it made the child, which is more than omk ever has.
        peaks, stop = [], threading.Event()
        watch = threading.Thread(target=memory_peak, args=(process.pid, stop, peaks))
        watch.start()
        text = process.stdout.read()
        stop.set(), watch.join()
        process.wait()
        if process.returncode:
            bad = [f"{n['node']}: {n['error']}" for n in json.loads(text or b'{"nodes": []}')["nodes"] if n["error"]]
            sys.exit("\n  ".join([f"preheat.py: omk ended with {process.returncode}", *bad]))
        if report is not None:
            report.append(json.loads(text))
        return peaks[0]
    return work


def memory_peak(pid, stop, out):
    """VmHWM in KiB, as of the last time that it could be read."""
    peak = 0
    while True:
        try:
            lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            peak = max([peak] + [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")])
        except OSError:
            pass
        if stop.wait(0.05):
            out.append(peak)
            return


def compare(ways, images, rounds):
    """Runs all ways in turn, so that they share what else goes on on the machine; medians by name."""
    runs = {name: [] for name in ways}
    for n in range(rounds):
        for name, (work, before) in ways.items():
            before()
            run = Run(work)
            if lacking := images and ready(images):
                sys.exit(f"preheat.py: {name} did not bring {lacking}")
            runs[name].append(run)
            print(f"  round {n + 1} {name}: {run.wall:.2f} s, sender {run.sender:.1f} CPU s, containerd {run.node:.1f} CPU s", file=sys.stderr)
    best = {}
    for name, all in runs.items():
        best[name] = statistics.median(r.wall for r in all)
        middle = lambda field: statistics.median(getattr(r, field) for r in all)
        print(f"  {name:<34} {best[name]:6.2f} s   sender {middle('sender'):5.1f} CPU s   containerd {middle('node'):5.1f} CPU s")
    return best


MISSED = []


def goal(what, value, limit, unit=""):
    good = value <= limit
    MISSED.extend([] if good else [what])
    print(f"  {what:<60} {value:8.2f}{unit}   goal {limit}{unit}   {'met' if good else 'MISSED'}")


def staging_peak(stop, out):
    place, peak = LAB_DIR / "node1/disk/omk", 0
    while not stop.is_set():
        used = 0
        for folder, _, names in os.walk(place):
            for name in names:
                try:
                    used += os.lstat(os.path.join(folder, name)).st_size
                except OSError:
                    pass
        peak = max(peak, used)
        time.sleep(0.05)
    out.append(peak)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("omk")
    parser.add_argument("--only", default="cold,shaped,patch,idle,many,fast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/omk-bench"))
    parser.add_argument("--containerd", help="as OMK_LAB_CTD: another containerd than the installed one")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("preheat.py: needs root, for the lab")
    if args.containerd:
        os.environ["OMK_LAB_CTD"] = args.containerd
    os.environ.setdefault("OMK_LAB_DISK", "4g")
    omk, only = os.path.realpath(args.omk), args.only.split(",")
    all = Set(args.work / "set")
    images = all.made["set"]
    lab("down", check=False)
    try:
        lab("up", 1)
        print(f"set: {len(images)} images, {all.size(images) / 1e6:.0f} MB packed; {node(1, 'containerd --version').split()[2]}; {os.cpu_count()} processors")
        tests = {"cold": cold, "shaped": shaped, "patch": patch, "fast": fast, "idle": idle, "many": many}
        for name in tests:
            if name in only:
                tests[name](all, images, omk, args)
    finally:
        lab("down", check=False)
    if MISSED:
        sys.exit("missed: " + "; ".join(MISSED))


def cold(all, images, omk, args):
    print("cold, LAN")
    peaks, stop = [], threading.Event()
    best = compare({
        "one stream": (by_stream(all, images), empty), "pipelined by hand": (by_pipeline(all, images), empty),
        "scp, then import": (by_scp(all, images), empty), "omk preheat": (by_omk(omk, all.tar("set")), empty),
    }, images, args.rounds)
    empty()
    beside = threading.Thread(target=staging_peak, args=(stop, peaks))
    beside.start()
    by_omk(omk, all.tar("set"))()
    stop.set(), beside.join()
    hand = min(best["one stream"], best["pipelined by hand"])
    goal("omk / best by hand", best["omk preheat"] / hand, 1.1)
    goal("omk / scp, then import", best["omk preheat"] / best["scp, then import"], 0.85)
    largest = max(sum(b["size"] for b in i["blobs"]) for i in images.values())
    print(f"  staging at its fullest {peaks[0] / 1e6:.0f} MB; the largest image has {largest / 1e6:.0f} MB, the set {all.size(images) / 1e6:.0f} MB")


def shaped(all, images, omk, args):
    print("shaped, 200 Mbit/s, 50 ms of round trip")

    def placed():
        lab("add-latency", 0, 0), empty()
        shutil.copyfile(all.tar("set"), LAB_DIR / "node1/disk/tmp/set.tar")
        os.sync()

    def far():
        lab("add-latency", 0, 0), empty(), lab("add-latency", 25, 200)
    tmp = "/tmp/set.tar"
    best = compare({"import of a tar on the node": (lambda: node(1, f"ctr -n k8s.io images import {tmp} >/dev/null") and None, placed)}, images, args.rounds)
    (LAB_DIR / "node1/disk/tmp/set.tar").unlink()
    raw = lambda: subprocess.run([*SSH, "node1", "cat >/dev/null"], stdin=open(all.tar("set"), "rb"), check=True) and None
    best |= compare({"raw transfer": (raw, far)}, [], args.rounds)
    best |= compare({"one stream": (by_stream(all, images), far), "pipelined by hand": (by_pipeline(all, images), far),
                     "omk preheat": (by_omk(omk, all.tar("set")), far)}, images, args.rounds)
    lab("add-latency", 0, 0)
    goal("omk / larger of raw transfer and import", best["omk preheat"] / max(best["raw transfer"], best["import of a tar on the node"]), 1.15)
    print(f"  for comparison: one stream {best['one stream'] / best['raw transfer']:.2f}, pipelined by hand {best['pipelined by hand'] / best['raw transfer']:.2f} of the raw transfer")


def patch(all, images, omk, args):
    print("patch release, LAN")
    empty()
    by_omk(omk, all.tar("set"))()
    new = all.made["patch"]
    had = {b["digest"] for b in all.blobs(images)}
    size = sum(b["size"] for b in all.blobs(new) if b["digest"] not in had)
    reports = []

    def before():
        node(1, "ctr -n k8s.io images rm --sync $(ctr -n k8s.io images ls -q | grep app:2) >/dev/null 2>&1; true")
    best = compare({"omk preheat": (by_omk(omk, all.tar("patch"), report=reports), before)}, new, args.rounds)
    sent = max(r["nodes"][0]["bytes_sent"] for r in reports)
    print(f"  new blobs {size} bytes, sent {sent}")
    goal("bytes sent / bytes of the new blobs", sent / size, 1.02)
    goal("wall", best["omk preheat"], 2, " s")


def fast(all, images, omk, args):
    print("fast import, LAN")
    home = args.work / "home"

    def anew():
        shutil.rmtree(home, ignore_errors=True), empty()
    # On a node that has the set there is nothing to pack.
    anew()
    by_omk(omk, all.tar("set"), "--fast-import", home=home)()
    warm = "--fast-import, packed before"
    best = compare({
        "gzip": (by_omk(omk, all.tar("set"), home=home), empty),
        warm: (by_omk(omk, all.tar("set"), "--fast-import", home=home), empty),
    }, [], args.rounds)
    best |= compare({"--fast-import, packing first": (by_omk(omk, all.tar("set"), "--fast-import", home=home), anew)}, [], args.rounds)
    goal("--fast-import / gzip", best[warm] / best["gzip"], 0.75)
    print(f"  with packing on this machine first: {best['--fast-import, packing first'] / best['gzip']:.2f} for one node; it is done once for all of them")


def more(count):
    lab("down", check=False), lab("up", count)


def idle(all, images, omk, args):
    print("nothing to do, 10 nodes")
    more(10)
    by_omk(omk, all.tar("small"), limit=None)()
    best = compare({"omk preheat": (by_omk(omk, all.tar("small"), limit=None), lambda: None)}, [], args.rounds)
    goal("wall", best["omk preheat"], 1, " s")


def many(all, images, omk, args):
    print(f"memory, {args.nodes} nodes")
    # So many nodes' images have no room in memory.
    os.environ.pop("OMK_LAB_DISK")
    more(args.nodes)
    run = Run(by_omk(omk, all.tar("patch"), limit=None))
    print(f"  {args.nodes} nodes ready in {run.wall:.1f} s, sender {run.sender:.1f} CPU s")
    goal("peak memory of the sender", run.rss / 1024, 100, " MiB")


if __name__ == "__main__":
    main()

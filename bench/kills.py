#!/usr/bin/env python3
"""Ends omk with SIGKILL at random moments, again and again, and looks at what is left each time.

    bench/kills.py OMK IMAGE... [--rounds 100] [--folder DIR] [--seed N]

The images must be served over plain HTTP on loopback. A round is one of: pulls into the cache (one, or two at once), a
clean-up beside them, a bundle in a tar file, a bundle in a folder, volumes with parity, a repair of one that was damaged, a
merge of a delta and its base. Afterwards, each time:

    omk cache verify is clean;
    every file below blobs/sha256/, of the cache and of every folder bundle, is what its name says;
    a tar file, folder or set of volumes that has its final name verifies.

At the end everything is run once more without a kill, and must succeed. Exit code 0 when all rounds were clean.
"""
import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("omk")
parser.add_argument("images", nargs="+", metavar="IMAGE")
parser.add_argument("--rounds", type=int, default=100)
parser.add_argument("--folder")
parser.add_argument("--seed", type=int, default=5)
args = parser.parse_args()

omk = os.path.abspath(args.omk)
folder = args.folder or tempfile.mkdtemp(prefix="omk-kills-")
os.makedirs(folder, exist_ok=True)
registry = args.images[0].split("/")[0]
env = dict(os.environ, OMK_HOME=folder + "/home", OMK_PLAIN_HTTP=registry, OMK_PROGRESS="none")
for name in ("OMYKUBE_HOME", "OMK_CACHE"):
    env.pop(name, None)
dice = random.Random(args.seed)
at = lambda name: os.path.join(folder, name)


def start(*arguments):
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([omk, *arguments], env=env, **quiet)


def run(*arguments):
    return subprocess.run([omk, *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def must(*arguments):
    done = run(*arguments)
    if done.returncode:
        sys.exit(f"omk {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")


def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)


def blobs_are_whole(top):
    where = os.path.join(top, "blobs/sha256")
    wrong = []
    for name in os.listdir(where) if os.path.isdir(where) else []:
        with open(os.path.join(where, name), "rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() != name:
                wrong.append(os.path.join(where, name))
    return wrong


flags = [word for image in args.images for word in ("--image", image)]
pull = ["image", "pull", *args.images]
ways = {
    "pull": [pull],
    "two pulls": [pull, pull],
    "pull and clean-up": [pull, ["cache", "gc", "--grace", "0s", "--max-size", "1MB"]],
    "tar": [["bundle", "build", *flags, "--cache", "-o", at("new.tar")]],
    "folder": [["bundle", "build", *flags, "--cache=off", "--format", "folder", "-o", at("new.folder")]],
    "volumes": [["bundle", "split", at("base.tar"), "--split", "16MiB", "--parity", "20%", "-o", at("new.volumes")]],
    "repair": [["bundle", "repair", at("volumes")]],
    "merge": [["bundle", "merge", at("base.tar"), at("delta.tar"), "-o", at("merged.tar")]],
}

must("bundle", "build", *flags[:-2], "--cache=off", "-o", at("base.tar"))
must("bundle", "build", *flags, "--cache=off", "--since", at("base.tar"), "-o", at("delta.tar"))
must("bundle", "split", at("base.tar"), "--split", "16MiB", "--parity", "20%", "-o", at("volumes"))
victim = sorted(n for n in os.listdir(at("volumes")) if n.endswith(".omkv"))[0]
size = os.path.getsize(at("volumes/" + victim))
took = {}


def prepare(way):
    if way == "repair":
        # The sum of what is repaired is in SHA256SUMS.
        with open(at("volumes/" + victim), "r+b") as f:
            # Within the volume, however small the images are: its length stays.
            f.seek(size // 2)
            f.write(os.urandom(min(3_000_000, size // 4)))
    elif "pull" in way and dice.random() < 0.4:
        must("cache", "clear", "--all")
    elif dice.random() < 0.4:
        for name in ("new.tar", "new.folder", "new.volumes", "merged.tar"):
            remove(at(name))


def check(way):
    wrong = blobs_are_whole(at("home/cache/images")) + blobs_are_whole(at("new.folder"))
    done = run("cache", "verify")
    if done.returncode:
        wrong.append(f"cache verify: exit {done.returncode}: {done.stdout}{done.stderr}")
    # A folder is a bundle once it has its index, a set once it has all volumes.
    complete = {
        "new.tar": "new.tar", "merged.tar": "merged.tar", "new.folder": "new.folder/index.json",
        "new.volumes": "new.volumes/SHA256SUMS",
    }
    for name, sign in complete.items():
        if os.path.exists(at(sign)) and (done := run("bundle", "verify", at(name))).returncode:
            wrong.append(f"{name}: exit {done.returncode}: {done.stdout}{done.stderr}")
    if way == "repair":
        # Whatever stands under the victim's name is the damaged one or the good one, never a part of it.
        sums = dict(reversed(line.split()) for line in open(at("volumes/SHA256SUMS")) if len(line.split()) == 2)
        with open(at("volumes/" + victim), "rb") as f:
            good = hashlib.file_digest(f, "sha256").hexdigest() == sums[victim]
        if not good and os.path.getsize(at("volumes/" + victim)) != size:
            wrong.append("a part of a volume has its name")
    return wrong


clean = ended = 0
for round_ in range(args.rounds):
    way = list(ways)[round_ % len(ways)]
    prepare(way)
    begun = time.monotonic()
    running = [start(*arguments) for arguments in ways[way]]
    for process in running:
        # Most before the end, some after it.
        wait = dice.random() * 1.1 * took.get(way, 2.0)
        try:
            process.wait(max(0.0, begun + wait - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
    codes = [process.wait() for process in running]
    if all(code == 0 for code in codes):
        ended += 1
        took[way] = time.monotonic() - begun
    elif all(code == -9 for code in codes):
        took.setdefault(way, 2.0)
        took[way] *= 1.15
    wrong = check(way)
    clean += not wrong
    print(f"{round_ + 1:3}  {way:18} {time.monotonic() - begun:5.2f} s  {codes}  {'clean' if not wrong else wrong}", flush=True)

for way, commands in ways.items():
    for arguments in commands[:1]:
        must(*arguments)
    if wrong := check(way):
        sys.exit(f"after the end, {way}: {wrong}")
print(f"{clean} of {args.rounds} clean; {args.rounds - ended} were killed on their way")
if not args.folder:
    shutil.rmtree(folder)
sys.exit(clean != args.rounds)

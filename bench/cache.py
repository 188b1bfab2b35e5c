#!/usr/bin/env python3
"""The image cache at its size: 10,000 images of 100,000 blobs, laid down as another tool would (an OCI image layout),
taken over by omk, then timed as whole processes:

    looking one image up, listing all, figures, a clean-up that has nothing to do, one that frees half of it, a check.

    bench/cache.py OMK [IMAGES] [FOLDER]     # OMK: the program; FOLDER: where, 1 GB of small files

Each image has its manifest, its config and eight layers of its own. Prints a table in Markdown.
"""
import hashlib, json, os, shutil, subprocess, sys, tempfile, time

program = os.path.abspath(sys.argv[1])
count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
home = sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp(prefix="omk-bench-cache-")
root = os.path.join(home, "cache/images")
blobs = os.path.join(root, "blobs/sha256")
env = dict(os.environ, OMK_HOME=home, OMK_PROGRESS="plain")
env.pop("OMYKUBE_HOME", None)


def blob(data):
    name = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, name), "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + name, "size": len(data)}


def image(n):
    layers = [dict(blob(b"image %d layer %d " % (n, k) * 40), mediaType="application/vnd.oci.image.layer.v1.tar") for k in range(8)]
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [l["digest"] for l in layers]}, "config": {"Labels": {"n": str(n)}}}
    config = dict(blob(json.dumps(config).encode()), mediaType="application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}
    name = f"registry.example:5000/team-{n % 97}/app-{n}:1.{n % 50}"
    return dict(blob(json.dumps(manifest).encode()), mediaType=manifest["mediaType"], annotations={"org.opencontainers.image.ref.name": name})


def generate():
    os.makedirs(blobs)
    entries = [image(n) for n in range(count)]
    with open(os.path.join(root, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    with open(os.path.join(root, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": entries}, f)
    return [e["annotations"]["org.opencontainers.image.ref.name"] for e in entries]


def timed(what, *arguments, times=1):
    best, last = None, ""
    for _ in range(times):
        begun = time.monotonic()
        done = subprocess.run([program, *arguments], env=env, capture_output=True, text=True)
        took = time.monotonic() - begun
        if done.returncode != 0:
            sys.exit(f"{arguments}: exit {done.returncode}\n{done.stderr}")
        best, last = took if best is None else min(best, took), done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    print(f"| {what} | `omk {' '.join(arguments)}` | {best * 1000:.0f} ms | {last[:90]} |", flush=True)


print(f"{count} images, {count * 10} blobs\n\n| what | command | time | its last line |\n|---|---|---|---|", flush=True)
names = generate()
middle = names[count // 2]
timed("take over what another tool wrote", "image", "inspect", middle)
timed("look one image up (best of 5)", "image", "inspect", middle, times=5)
timed("look one up that is not there", "image", "list", "nowhere.example/none:1")
timed("list all", "image", "list")
timed("figures", "cache", "stats")
timed("nothing to clean up", "cache", "gc")
timed("check every blob", "cache", "verify")
old = time.time() - 40 * 24 * 3600
for folder, _, files in os.walk(os.path.join(root, "manifests")):
    for name in files:
        if sum(folder.encode()) % 2 == 0:
            os.utime(os.path.join(folder, name), (old, old))
timed("which would go?", "cache", "gc", "--older-than", "30d", "--grace", "0s", "--dry-run")
timed("let them go", "cache", "gc", "--older-than", "30d", "--grace", "0s")
timed("let all go", "cache", "clear", "--all")
shutil.rmtree(home)

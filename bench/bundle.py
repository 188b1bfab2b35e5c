#!/usr/bin/env python3
"""Bundles at their size.

    bench/bundle.py OMK inspect [GIB] [FOLDER]     a bundle of 20 GiB (a sparse file): opened, listed, inspected
    bench/bundle.py OMK many [IMAGES] [FOLDER]     a definition of 1,000 images from a registry in this process: memory at a
                                                   quarter, half and all of them, and how steadily progress was told

Prints a table in Markdown.
"""
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

omk, what = os.path.abspath(sys.argv[1]), sys.argv[2]
count = int(sys.argv[3]) if len(sys.argv) > 3 else {"inspect": 20, "many": 1000}[what]
folder = sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp(prefix="omk-bench-bundle-")
os.makedirs(folder, exist_ok=True)
env = dict(os.environ, OMK_HOME=folder + "/home", OMK_PROGRESS="json")
OCI = "application/vnd.oci.image."


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(kind, data, **more):
    return {"mediaType": OCI + kind, "digest": sha(data), "size": len(data), **more}


def dumps(value):
    return json.dumps(value).encode()


def image(n, layers):
    """(manifest, config) of an image with these layer descriptors."""
    diffs = [layer["digest"] for layer in layers]
    config = dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diffs}, "n": n})
    manifest = dumps({
        "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
        "config": descriptor("config.v1+json", config), "layers": layers,
    })
    return manifest, config


def measured(*arguments):
    """(seconds, CPU seconds, peak MiB, standard error)"""
    begun, errors = time.monotonic(), tempfile.TemporaryFile("w+")
    process = subprocess.Popen([omk, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=errors)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - begun
    errors.seek(0)
    text = errors.read()
    if status:
        sys.exit(f"omk {' '.join(arguments)}: {status}\n{text[-2000:]}")
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def inspect(gib):
    path = os.path.join(folder, "big.tar")
    each, number = 128 << 20, gib * 8
    entries, documents, holes = [], {}, []
    for n in range(number):
        layer = {"mediaType": OCI + "layer.v1.tar+gzip", "digest": sha(b"layer %d" % n), "size": each}
        holes.append(layer["digest"])
        manifest, config = image(n, [layer])
        documents.update({sha(manifest): manifest, sha(config): config})
        name = f"registry.example/team/app-{n}:1"
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
        entries.append(descriptor("manifest.v1+json", manifest, annotations=names))
    texts = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": dumps({"schemaVersion": 2, "manifests": entries})}
    blob = lambda digest: "blobs/sha256/" + digest.removeprefix("sha256:")
    small = [*texts.items(), *((blob(d), data) for d, data in documents.items())]
    with open(path, "wb") as f:
        for name, size, data in [(n, len(d), d) for n, d in small] + [(blob(d), each, b"") for d in holes]:
            header = tarfile.TarInfo(name)
            header.size = size
            f.write(header.tobuf(tarfile.USTAR_FORMAT))
            f.write(data)
            f.seek(f.tell() + size - len(data))
            f.seek((f.tell() + 511) // 512 * 512)
        f.truncate(f.tell() + 1024)
    print(f"{number} images, {os.path.getsize(path) / 2**30:.1f} GiB\n\n| command | best of 5 | CPU | peak |\n|---|---|---|---|")
    for arguments in (["bundle", "list", path], ["bundle", "inspect", path], ["bundle", "inspect", path, "-o", "json"]):
        best = min(measured(*arguments)[:3] for _ in range(5))
        shown = " ".join(arguments).replace(path, "big.tar")
        print(f"| `omk {shown}` | {best[0] * 1000:.0f} ms | {best[1] * 1000:.0f} ms | {best[2]:.0f} MiB |", flush=True)


class Registry(http.server.BaseHTTPRequestHandler):
    """Images `lab/app-N:1`: one layer that all share, and one of 256 KiB of their own. Bytes are made when they are asked for."""

    protocol_version = "HTTP/1.1"
    shared = hashlib.shake_128(b"shared").digest(1 << 20)
    known = {}

    @classmethod
    def make(cls, n):
        own = hashlib.shake_128(b"own %d" % n).digest(256 << 10)
        layers = [descriptor("layer.v1.tar", cls.shared), descriptor("layer.v1.tar", own)]
        manifest, config = image(n, layers)
        cls.known[sha(own)] = n
        cls.known.update({sha(config): config, sha(manifest): manifest, sha(cls.shared): cls.shared})
        return manifest

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts, kind = self.path.split("/"), "application/octet-stream"
        if self.path == "/v2/":
            body = b"{}"
        elif "manifests" in parts:
            reference, kind = parts[-1], OCI + "manifest.v1+json"
            body = self.known[reference] if reference.startswith("sha256:") else self.make(int(parts[-3].split("-")[1]))
        else:
            body = self.known[parts[-1]]
            if isinstance(body, int):
                body = hashlib.shake_128(b"own %d" % body).digest(256 << 10)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", sha(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def many(number):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    env["OMK_PLAIN_HTTP"] = host
    print("| images | time | CPU | peak | longest without progress |\n|---|---|---|---|---|")
    for n in (number // 4, number // 2, number):
        definition, out = os.path.join(folder, "bundle.yaml"), os.path.join(folder, f"{n}.tar")
        images = "".join(f"    - {host}/lab/app-{i}:1\n" for i in range(n))
        with open(definition, "w") as f:
            f.write(f"apiVersion: omk/v1\nkind: Bundle\nmetadata: {{name: many}}\nspec:\n  images:\n{images}")
        begun, last, longest = time.monotonic(), time.monotonic(), 0.0
        arguments = [omk, "bundle", "build", definition, "--cache=off", "-o", out]
        process = subprocess.Popen(arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in process.stderr:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{n} images: {status}")
        took, cpu = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
        print(f"| {n} | {took:.1f} s | {cpu:.1f} s | {usage.ru_maxrss / 1024:.0f} MiB | {longest:.1f} s |", flush=True)
        os.remove(out)


{"inspect": inspect, "many": many}[what](count)
if len(sys.argv) <= 4:
    shutil.rmtree(folder)

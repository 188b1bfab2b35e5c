#!/usr/bin/python3
"""Small images that behave like real ones, made in seconds from this machine's static busybox.

images.py push REGISTRY [--only NAME:TAG ...] [--big-mb N]   makes the images, pushes them with skopeo (plain HTTP)
images.py write DIR [...]                                    only writes them: a directory an image, see `list`
images.py list                                               names, and what each is for

The same machine makes the same bytes every time. `lab/big:1` is made only when --only asks for it.
"""
import argparse
import concurrent.futures
import functools
import gzip
import hashlib
import io
import json
import pathlib
import platform
import random
import struct
import subprocess
import sys
import tarfile
import tempfile

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
LAYER_TYPE = {"gzip": OCI + "layer.v1.tar+gzip", "zstd": OCI + "layer.v1.tar+zstd"}
WHEN = "2024-01-01T00:00:00Z"
MTIME = 1704067200
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
FOREIGN = {"amd64": "arm64", "arm64": "amd64"}[NATIVE]
APPLETS = "sh ls cat echo env id sleep true false test wc sha256sum md5sum grep sed head tail mkdir rm cp mv uname ps".split()

# --- file contents -------------------------------------------------------------------------------------------


def noise(seed, size):
    """Bytes that no compression makes smaller, as in a jar or a picture."""
    return hashlib.shake_128(seed.encode()).digest(size)


def prose(seed, size):
    """Text that packs to about a third, as program files do."""
    rnd = random.Random(seed)
    words = ["".join(rnd.choices("etaoinshrdlu", k=rnd.randint(2, 9))) for _ in range(400)]
    return " ".join(rnd.choices(words, k=size // 2)).encode()[:size]


def busybox():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        data = pathlib.Path(path).read_bytes() if pathlib.Path(path).exists() else b""
        if data and not asks_for_loader(data):
            return data
    sys.exit("images.py: no static busybox on this machine (Debian package busybox-static; tests/setup.sh installs it)")


def asks_for_loader(elf):
    """A 64-bit ELF file with a PT_INTERP header is not static."""
    offset, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return any(struct.unpack_from("<I", elf, offset + i * size) == (3,) for i in range(count))


# --- layers: path -> content; bytes = file, str = symlink, None = directory ----------------------------------


def base(arch):
    # No program for a foreign processor at hand: bytes of the same size, which only have to travel.
    program = busybox() if arch == NATIVE else busybox().translate(bytes(range(255, -1, -1)))
    return {
        "bin": None, "etc": None, "proc": None, "sys": None, "dev": None, "root": None, "tmp": None, "usr": None,
        "bin/busybox": program,
        **{f"bin/{name}": "busybox" for name in APPLETS},
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "etc/os-release": b"ID=omk-lab\nPRETTY_NAME=\"omk lab base\"\n",
        **{f"usr/share/doc{i}": prose(f"doc{i}", 40_000) for i in range(20)},
    }


def runtime():
    """A language runtime: many text files and one library of noise."""
    return {
        "usr/lib": None, "usr/lib/rt": None,
        **{f"usr/lib/rt/mod{i:03}.py": prose(f"rt{i}", 24_000) for i in range(120)},
        "usr/lib/rt/librt.so": noise("librt", 2_000_000),
    }


def assets():
    return {"srv": None, "srv/www": None, **{f"srv/www/pic{i}.png": noise(f"pic{i}", 300_000) for i in range(10)}}


def app(version):
    """What a patch release changes: one small layer."""
    return {
        "app": None, "app/VERSION": version.encode() + b"\n", "app/main.py": prose(f"main {version}", 60_000),
        "app/start": b"#!/bin/sh\necho web $(cat /app/VERSION)\n",
    }


def settings(name):
    return {"etc/lab": None, f"etc/lab/{name}.conf": "".join(f"{name}.{i} = {i * i}\n" for i in range(200)).encode()}


def big(mb):
    return {"data": None, "data/blob": noise("big", mb * 1_000_000)}


LAYERS = {
    "base": lambda _: base(NATIVE),
    "base-foreign": lambda _: base(FOREIGN),
    "runtime": lambda _: runtime(),
    "assets": lambda _: assets(),
    "app-1.0": lambda _: app("1.0"),
    "app-1.1": lambda _: app("1.1"),
    "tool": lambda _: settings("tool"),
    "zstd": lambda _: settings("zstd"),
    "docker2": lambda _: settings("docker2"),
    "big": big,
}

# name: (kind, compression, layers of each platform, what it is for)
WEB = ["base", "runtime", "assets"]
IMAGES = {
    "lab/base:1": ("oci", "gzip", {NATIVE: ["base"]}, "one layer, shared by all others"),
    "lab/web:1.0": ("oci", "gzip", {NATIVE: [*WEB, "app-1.0"]}, "four layers"),
    "lab/web:1.1": ("oci", "gzip", {NATIVE: [*WEB, "app-1.1"]}, "patch release: the last, small layer differs"),
    "lab/tool:2": ("oci", "gzip", {NATIVE: ["base", "tool"], FOREIGN: ["base-foreign", "tool"]}, "index of amd64 and arm64"),
    "lab/zstd:1": ("oci", "zstd", {NATIVE: ["base", "runtime", "zstd"]}, "zstd layers"),
    "lab/docker2:1": ("docker", "gzip", {NATIVE: ["base", "docker2"]}, "Docker schema 2 manifest"),
    "lab/big:1": ("oci", "gzip", {NATIVE: ["base", "big"]}, "one large layer of noise; only on demand"),
}
ON_DEMAND = {"lab/big:1"}

# --- bytes ---------------------------------------------------------------------------------------------------


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            content, entry = files[path], tarfile.TarInfo(path)
            entry.mtime = MTIME
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            elif isinstance(content, str):
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content, 0o777
            else:
                entry.size, entry.mode = len(content), 0o755 if path.startswith(("bin/", "app/")) else 0o644
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def compress(data, how):
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-3", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return gzip.compress(data, compresslevel=6 if len(data) < 32_000_000 else 1, mtime=0)


@functools.cache
def layer(name, how, big_mb):
    """(diff ID, packed bytes)"""
    plain = tar(LAYERS[name](big_mb))
    return digest(plain), compress(plain, how)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(value):
    return json.dumps(value, separators=(",", ":")).encode()


def image(kind, how, names, arch, big_mb):
    """(manifest bytes, blobs by digest)"""
    layers = [layer(name, how, big_mb) for name in names]
    config = dumps({
        "architecture": arch, "os": "linux", "created": WHEN,
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]},
        "history": [{"created": WHEN, "created_by": f"lab {name}"} for name in names],
    })
    types = (MANIFEST, OCI + "config.v1+json", LAYER_TYPE[how])
    if kind == "docker":
        types = (DOCKER + "distribution.manifest.v2+json", DOCKER + "container.image.v1+json",
                 DOCKER + "image.rootfs.diff.tar.gzip")
    manifest = dumps({
        "schemaVersion": 2, "mediaType": types[0], "config": descriptor(types[1], config),
        "layers": [descriptor(types[2], packed) for _, packed in layers],
    })
    return manifest, {digest(data): data for data in [config, *(packed for _, packed in layers)]}


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


# --- files and pushes ----------------------------------------------------------------------------------------


def write(name, out, big_mb):
    """Writes the image below `out`; returns the name that skopeo knows it by."""
    kind, how, platforms, _ = IMAGES[name]
    path = out / name.replace("/", "_").replace(":", "_")
    parts = {arch: image(kind, how, names, arch, big_mb) for arch, names in platforms.items()}
    blobs = {key: data for _, part in parts.values() for key, data in part.items()}
    if kind == "docker":
        [(manifest, _)] = parts.values()
        path.mkdir(parents=True, exist_ok=True)
        (path / "version").write_text("Directory Transport Version: 1.1\n")
        (path / "manifest.json").write_bytes(manifest)
        for key, data in blobs.items():
            (path / key.removeprefix("sha256:")).write_bytes(data)
        return f"dir:{path}"
    entries = [
        descriptor(MANIFEST, manifest, platform={"os": "linux", "architecture": arch})
        for arch, (manifest, _) in sorted(parts.items())
    ]
    blobs.update((digest(manifest), manifest) for manifest, _ in parts.values())
    if len(entries) > 1:
        index = dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        blobs[digest(index)] = index
        entries = [descriptor(INDEX, index)]
    (path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    for key, data in blobs.items():
        (path / "blobs/sha256" / key.removeprefix("sha256:")).write_bytes(data)
    entries[0]["annotations"] = {"org.opencontainers.image.ref.name": "it"}
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (path / "index.json").write_bytes(dumps({"schemaVersion": 2, "manifests": entries}))
    return f"oci:{path}:it"


def push(name, out, registry, big_mb):
    source = write(name, out, big_mb)
    command = ["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", source, f"docker://{registry}/{name}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"images.py: {' '.join(command)}: {done.stderr}")
    return f"{registry}/{name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["push", "write", "list"])
    parser.add_argument("where", nargs="?", help="registry (host:port) or directory")
    parser.add_argument("--only", nargs="+", choices=IMAGES, metavar="NAME:TAG")
    parser.add_argument("--big-mb", type=int, default=64, help="size of the large layer of lab/big:1")
    args = parser.parse_args()
    if args.command == "list":
        for name, (_, _, _, purpose) in IMAGES.items():
            print(f"{name:14} {purpose}")
        return
    if not args.where:
        parser.error(f"{args.command} needs a registry or a directory")
    names = args.only or [name for name in IMAGES if name not in ON_DEMAND]
    if args.command == "write":
        for name in names:
            print(write(name, pathlib.Path(args.where), args.big_mb))
        return
    with tempfile.TemporaryDirectory(prefix="omk-lab-images-") as out:
        # The first goes alone: its base layer need not travel with the others then.
        print(push(names[0], pathlib.Path(out), args.where, args.big_mb))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for pushed in pool.map(lambda n: push(n, pathlib.Path(out), args.where, args.big_mb), names[1:]):
                print(pushed)


if __name__ == "__main__":
    main()

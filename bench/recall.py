#!/usr/bin/env python3
"""Measure discovery on a folder of real charts.

    bench/recall.py --omk target/release/omk --charts DIR [--goldens DIR] [--cases FILE.tsv] [--filter RE] [--out report.json]

DIR holds one chart folder for each entry. What is printed:

  pod specs    share of the images in pod specs that real helm renders (goldens: FILE.yaml.gz for each chart) which omk finds
  statements   share of the images that charts list about themselves (annotations `artifacthub.io/images` and `images`)
               which omk finds, without and with --include-disabled. The rules that read those statements are switched
               off: recall must not measure itself. With them, as a user has it, the figure is printed too, on its own. What a dependency states is not counted: the chart may set it otherwise
  precision    share of omk's findings, likely or better, whose repository the chart names somewhere: in an annotation,
               in values or in a template. A finding of an image that is none would be one that nobody names
  baselines    the same for two plain ways: every `image:` key of the rendered text, and every text in it that has the
               form of an image
  causes       each statement that is missed, with a reason that the chart's files give

An image counts as found when its repository and its tag or digest are found. Recall of statements is printed for all of
them, and again without those that are missed and that the chart itself proves wrong; each of these is listed with its proof:

  another version    the chart takes the repository in another version, and no file of it knows the stated one
  another registry   the chart takes that path and version from elsewhere, and no file of it knows the stated name
  ignored file       only files that .helmignore keeps out of the packaged chart name it

A statement that no file of the chart bears out, not even in part, is listed as `named nowhere`: nothing but the statement
itself could find it. It counts as missed. So does what charts elsewhere bring (`not at hand`): --offline does not fetch them.
"""
import argparse, collections, csv, fnmatch, gzip, json, os, re, shlex, subprocess, sys, tarfile, time
import yaml

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
STATED_RULES = ["chart-annotation", "chart-annotation-other", "images-lock"]
POD_LISTS = ("containers", "initContainers", "ephemeralContainers")
WORKLOADS = {
    "Pod": ("spec",), "PodTemplate": ("template", "spec"), "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **{k: ("spec", "template", "spec") for k in
       ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController")},
}
BUILT_IN = ("v1", "apps/", "batch/", "extensions/")


def normal(ref):
    """(repository, tag or digest), complete; None if it is no reference."""
    ref = str(ref).strip()
    name, _, digest = ref.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    name = head + slash + last
    if not name or not re.fullmatch(r"[A-Za-z0-9][\w.\-/:]*", name):
        return None
    first = name.split("/")[0]
    if "/" not in name or not (re.search(r"[.:]", first) or first == "localhost"):
        name = "docker.io/" + (name if "/" in name else "library/" + name)
    if name.startswith("index.docker.io/"):
        name = name[6:]
    if name.startswith("docker.io/") and name.count("/") == 1:
        name = "docker.io/library/" + name[10:]
    return name, digest or tag or "latest"


def documents(text):
    for part in re.split(r"(?m)^---.*$", text):
        try:
            yield from (d for d in yaml.load_all(part, Loader) if isinstance(d, dict))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue


def pod_images(docs):
    for d in docs:
        if d.get("kind") == "List":
            yield from pod_images(x for x in d.get("items") or [] if isinstance(x, dict))
        way = WORKLOADS.get(d.get("kind"))
        if not way or not str(d.get("apiVersion", "v1")).startswith(BUILT_IN):
            continue
        spec = d
        for key in way:
            spec = spec.get(key) if isinstance(spec, dict) else None
        if not isinstance(spec, dict):
            continue
        for key in POD_LISTS:
            for c in spec.get(key) or []:
                if isinstance(c, dict) and isinstance(c.get("image"), str) and c["image"]:
                    yield c["image"]


def image_keys(node):
    if isinstance(node, dict):
        for k, v in node.items():
            if k == "image" and isinstance(v, str):
                yield v
            yield from image_keys(v)
    elif isinstance(node, list):
        for v in node:
            yield from image_keys(v)


GREP = re.compile(r"(?<![\w./:@-])[a-z0-9][a-z0-9.\-]*(?::\d+)?(?:/[a-z0-9][\w.\-]*)*:[\w][\w.\-]{0,127}(?:@sha256:[0-9a-f]{64})?")


def files(folder, wanted, skip=()):
    """(path, text) of files below a chart, archives of dependencies included."""
    for top, dirs, names in os.walk(folder):
        dirs[:] = sorted(d for d in dirs if d not in skip)
        for name in sorted(names):
            path = os.path.join(top, name)
            if name.endswith((".tgz", ".tar.gz")):
                try:
                    with tarfile.open(path) as tar:
                        for m in tar:
                            if m.isfile() and m.size < 4 << 20 and wanted(m.name):
                                yield path + ":" + m.name, tar.extractfile(m).read().decode("utf-8", "replace")
                except (tarfile.TarError, OSError):
                    continue
            elif wanted(path):
                try:
                    yield path, open(path, encoding="utf-8", errors="replace").read()
                except OSError:
                    continue


def stated(folder):
    """{(repository, version)} that the chart says it has."""
    out = set()
    try:
        chart = yaml.load(open(os.path.join(folder, "Chart.yaml"), encoding="utf-8"), Loader) or {}
    except (yaml.YAMLError, OSError):
        chart = {}
    for key in ("artifacthub.io/images", "images"):
        said = (chart.get("annotations") or {}).get(key)
        if not isinstance(said, str):
            continue
        try:
            items = yaml.load(said, Loader)
        except yaml.YAMLError:
            continue
        for item in items if isinstance(items, list) else []:
            image = item.get("image") if isinstance(item, dict) else item
            if isinstance(image, str) and normal(image):
                out.add(normal(image))
    return out


# What people read and what machines wrote about other versions of the chart: no evidence of what it takes.
PROSE = (".md", ".gotmpl", ".png", ".svg", ".tgz")


def ignored(folder):
    """Whether .helmignore keeps a path (relative to the chart) out of the package."""
    try:
        lines = open(os.path.join(folder, ".helmignore"), encoding="utf-8").read().splitlines()
    except OSError:
        return lambda path: False
    rules = [l.strip() for l in lines if l.strip() and not l.startswith(("#", "!"))]

    def test(path):
        parts = path.split("/")
        for rule in rules:
            plain = rule.rstrip("/").removeprefix("./").lstrip("/")
            tops = ["/".join(parts[: i + 1]) for i in range(len(parts) - (1 if rule.endswith("/") else 0))]
            if any(fnmatch.fnmatch(top, plain) or ("/" not in plain and fnmatch.fnmatch(top.split("/")[-1], plain)) for top in tops):
                return True
        return False

    return test


def proof(image, folder, found):
    """(cause, proof) if the chart itself proves a statement wrong."""
    repository, version = image
    path = short(repository)
    bare = path.split("/", 1)[1] if "/" in path and re.search(r"[.:]", path.split("/")[0]) else path
    texts = [(os.path.relpath(p, folder), t) for p, t in files(folder, lambda p: not p.endswith(PROSE))
             if os.path.relpath(p, folder) != "Chart.yaml"]
    try:
        chart = yaml.load(open(os.path.join(folder, "Chart.yaml"), encoding="utf-8"), Loader) or {}
    except (yaml.YAMLError, OSError):
        chart = {}
    core = version.split(":")[-1].lstrip("v")
    knows = core == str(chart.get("appVersion", "")).lstrip("v") or any(core in t for _, t in texts)
    taken = sorted({v for r, v in found if r == repository})
    if taken and not knows:
        return "another version", f"takes {', '.join(taken)}; no file has {version}"
    others = sorted({r for r, v in found if v == version and r != repository and
                     (short(r) == bare or short(r).endswith("/" + bare))})
    if others and not any(path in t for _, t in texts):
        return "another registry", f"takes {', '.join(others)}; no file has {path}"
    if others and any(o.count(".") > 1 and o.endswith(path) for o in others):
        return "another registry", f"renders {', '.join(others)}"
    skip = ignored(folder)
    where = [p for p, t in texts if re.search(rf"image:\s*[\"']?{re.escape(path)}\b", t)]
    if where and all(skip(p) for p in where):
        return "ignored file", f"{', '.join(where)}: kept out of the package by .helmignore"
    return None


def short(repository):
    return repository.removeprefix("docker.io/").removeprefix("library/")


def cause(image, folder, found_repositories, gaps):
    """Why a statement is missed, as far as the chart's own files tell."""
    repository, version = image
    if gaps:
        return "not at hand", f"named by a chart elsewhere; {gaps} gaps are reported"
    path = short(repository)
    last = path.split("/")[-1]
    if repository in found_repositories:
        return "other version", f"found as {', '.join(sorted(found_repositories[repository]))}"
    texts = list(files(folder, lambda p: p.endswith((".yaml", ".yml", ".tpl", ".json", ".txt", ".toml")) and
                       os.path.basename(p) != "Chart.yaml"))
    for path_of, text in texts:
        if os.path.basename(path_of) == "values.yaml" and re.search(rf"(?m)^[^#\n]*\b{re.escape(last)}\b", text):
            return "in values", os.path.relpath(path_of, folder)
    for path_of, text in texts:
        if re.search(rf"(?m)^\s*#.*\b{re.escape(path)}\b", text):
            return "only in a comment", os.path.relpath(path_of, folder)
    for path_of, text in texts:
        if "templates/" in path_of and path in text:
            return "in a template", os.path.relpath(path_of, folder)
    for path_of, text in texts:
        if path in text:
            return "in another file", os.path.relpath(path_of, folder)
    return "named nowhere", "no file of the chart but Chart.yaml has it"


def run(omk, folder, *more):
    started = time.monotonic()
    done = subprocess.run([omk, "image", "discover", folder, "-o", "json", "--offline", *more], capture_output=True)
    seconds = time.monotonic() - started
    if not done.stdout:
        return None, seconds, done.stderr.decode("utf-8", "replace")
    return json.loads(done.stdout), seconds, done.stderr.decode("utf-8", "replace")


class Share:
    def __init__(self):
        self.hit = self.all = 0

    def add(self, hit):
        self.hit += bool(hit)
        self.all += 1

    def __str__(self):
        return f"{100 * self.hit / self.all:6.2f} %  {self.hit:5d} of {self.all}" if self.all else "   none to measure"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--omk", required=True)
    ap.add_argument("--charts", required=True)
    ap.add_argument("--goldens", help="folder of NAME.yaml.gz as helm renders them with release name rel, namespace ns")
    ap.add_argument("--cases", help="table with the columns case, values and extra: what helm was given for a golden")
    ap.add_argument("--kube-version", default="v1.31.0")
    ap.add_argument("--filter", default="", help="only charts whose folder matches this expression")
    ap.add_argument("--only-stated", action="store_true", help="only charts that list images of their own")
    ap.add_argument("--source-path", action="append", default=[], help="given to omk: a folder of charts at hand")
    ap.add_argument("--out")
    a = ap.parse_args()
    extras = {}
    if a.cases:
        for row in csv.DictReader(open(a.cases, encoding="utf-8"), delimiter="\t"):
            extras[row["case"]] = shlex.split(row["extra"]) if row["extra"] != "-" else []
    none = [x for r in STATED_RULES for x in ("--without-rule", r)]
    ways = ["omk", "omk --include-disabled", "image: keys only", "grep"]
    pods = {w: Share() for w in ways}
    said = {w: Share() for w in ways}
    precise = {w: Share() for w in ways}
    causes, wrong, lost, errors, disproved = [], [], [], [], []
    right = {w: Share() for w in ways}
    near = {w: Share() for w in ways}
    read = Share()
    charts = seconds = 0
    for name in sorted(os.listdir(a.charts)):
        folder = os.path.join(a.charts, name)
        if not os.path.isfile(os.path.join(folder, "Chart.yaml")) or not re.search(a.filter, name):
            continue
        if a.only_stated and not stated(folder):
            continue
        extra = extras.get(name, [])
        common = [x for flag, value in (("--namespace", "ns"), ("--kube-version", a.kube_version))
                  if flag not in extra for x in (flag, value)]
        common += ["--release-name", "rel", *extra, *none]
        common += [x for path in a.source_path for x in ("--source-path", path)]
        report, took, stderr = run(a.omk, folder, *common)
        more, _, _ = run(a.omk, folder, *common, "--include-disabled")
        usual, _, _ = run(a.omk, folder, *(x for x in common if x not in none), "--include-disabled")
        charts, seconds = charts + 1, seconds + took
        if report is None or any(p["severity"] == "error" for p in report["problems"]):
            errors.append((name, stderr.strip().splitlines()[:1]))
        if report is None or more is None or usual is None:
            continue
        as_run = {n for n in (normal(i["image"]) for i in usual["images"]) if n}
        golden = os.path.join(a.goldens or "", name + ".yaml.gz")
        text = None
        if a.goldens and os.path.isfile(golden):
            text = gzip.open(golden, "rt", encoding="utf-8", errors="replace").read()
        docs = list(documents(text)) if text is not None else []
        refs = {"omk": [i["image"] for i in report["images"]],
                "omk --include-disabled": [i["image"] for i in more["images"]],
                "image: keys only": list(image_keys(docs)), "grep": GREP.findall(text or "")}
        sets = {w: {n for n in map(normal, r) if n} for w, r in refs.items()}
        for image in sorted({n for n in map(normal, pod_images(docs)) if n}):
            for w in ways:
                pods[w].add(image in sets[w])
            if image not in sets["omk"]:
                lost.append((name, image))
        # Releases of charts elsewhere, which --offline does not fetch.
        gaps = sum("--offline" in p["reason"] for p in more["problems"])
        found_repositories = collections.defaultdict(set)
        for repository, version in sets["omk --include-disabled"]:
            found_repositories[repository].add(version)
        for image in sorted(stated(folder)):
            for w in ways:
                said[w].add(image in sets[w])
            read.add(image in as_run)
            is_wrong = None
            if image not in sets["omk --include-disabled"]:
                # Where charts elsewhere bring images too, nothing proves that they do not bring this one.
                is_wrong = None if gaps else proof(image, folder, sets["omk --include-disabled"])
                if is_wrong:
                    disproved.append((name, image, *is_wrong))
                else:
                    causes.append((name, image, *cause(image, folder, found_repositories, gaps)))
            at_hand = image in sets["omk --include-disabled"] or not gaps
            for w in ways if not is_wrong else []:
                right[w].add(image in sets[w])
                if at_hand:
                    near[w].add(image in sets[w])
        whole = "\n".join(t for _, t in files(folder, lambda p: not p.endswith((".md", ".png", ".svg"))))
        names = {w: {r for r, _ in sets[w]} for w in ways}
        known = {}
        for w in ways:
            for repository in names[w]:
                if repository not in known:
                    known[repository] = is_named(short(repository), whole)
                precise[w].add(known[repository])
                if w.startswith("omk") and not known[repository] and w == "omk":
                    places = [i["origins"][0] for i in report["images"] if normal(i["image"])[0] == repository]
                    wrong.append((name, repository, places[0]["rule"], places[0]["field"]))
    print(f"{charts} charts, {len(errors)} with errors; {60 * charts / max(seconds, 1e-9):.0f} charts a minute, one process each")
    for title, shares in (("recall, images of rendered pod specs", pods), ("recall, images that charts state (the rules that read the statements are off)", said),
                          ("the same without the statements that the chart proves wrong", right),
                          ("and without those that charts elsewhere bring, which are not at hand", near),
                          ("precision, by repository", precise)):
        print(f"\n{title}")
        for w in ways:
            print(f"  {w:24s} {shares[w]}")
    print(f"\nrecall, images that charts state, as a user has it: --include-disabled with the rules that read the statements\n"
          f"  {'omk':24s} {read}")
    print(f"\nimages of pod specs that were not found: {len(lost)}")
    for name, image in lost:
        print(f"  {name}: {':'.join(image)}")
    print(f"\nfindings that nobody names: {len(wrong)}")
    for row in wrong:
        print("  " + "  ".join(map(str, row)))
    print(f"\nstatements that the chart proves wrong: {len(disproved)}")
    for name, image, what, why in disproved:
        print(f"  {name}: {':'.join(image)}: {what}: {why}")
    print("\nstated images that were not found, by cause")
    for what, count in collections.Counter(c[2] for c in causes).most_common():
        print(f"  {count:5d}  {what}")
    for name, image, what, where in causes:
        print(f"  {name}: {':'.join(image)}: {what}{': ' + where if where else ''}")
    for name, told in errors:
        print(f"error: {name}: {' '.join(told)}")
    if a.out:
        shares = {t: {w: [s[w].hit, s[w].all] for w in ways} for t, s in
                  (("pods", pods), ("stated", said), ("stated, not disproved", right), ("stated, at hand", near), ("precision", precise))}
        shares["stated, statements read"] = {"omk": [read.hit, read.all]}
        json.dump({"shares": shares, "lost": lost, "wrong": wrong, "causes": causes, "disproved": disproved, "errors": errors}, open(a.out, "w"), indent=1)
    return 1 if lost else 0


def is_named(path, text):
    """Whether a repository stands in the text, whole or split where charts split it."""
    if path in text:
        return True
    parts = path.split("/")
    for cut in range(1, len(parts)):
        head, tail = "/".join(parts[:cut]), "/".join(parts[cut:])
        if re.search(rf"(?<![\w.-]){re.escape(tail)}(?![\w-])", text) and head in text:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())

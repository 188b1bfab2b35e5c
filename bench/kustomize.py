#!/usr/bin/env python3
"""Hold what omk builds of kustomizations against what `kubectl kustomize` renders: the image sets must be equal.

    bench/kustomize.py --omk target/release/omk --kubectl kubectl [--helm helm] [--go-tests DIR] [--jobs N] [--filter RE]
                       [--out report.json] FOLDER...

Each FOLDER is searched for kustomizations; each of them is a case of its own. With --go-tests the files that Go tests of
kustomize itself write (`th.WriteK`, `th.WriteF`, `th.WriteC` in api/krusty) are laid out below a scratch folder first, one
case for each folder that a test runs. A case counts when kubectl renders it. Then these must hold:

  equal        `omk image discover CASE` lists what `kubectl kustomize CASE | omk image discover -` lists, each image as
               surely, and reports no error or gap that the rendered text does not have too
  pods         every image of a pod spec in kubectl's text, found without omk, is listed

kubectl is given no network where the kernel lets us take it away, so that remote bases are refused there as they are in omk.
What kubectl refuses is counted, with how much of it omk refuses too or reports a gap in: omk may know images where
kustomize stops. Exit code 1 if any case differs.
"""
import argparse, collections, concurrent.futures, json, os, re, shutil, subprocess, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from recall import documents, normal, pod_images

FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
ALONE = ["unshare", "-n"] if os.geteuid() == 0 and shutil.which("unshare") else []


def cases(top):
    for folder, dirs, names in os.walk(top):
        dirs[:] = sorted(d for d in dirs if d != ".git")
        if any(n in FILES for n in names):
            yield folder


# Tests write texts in the place of images that are none.
IMAGE = re.compile(r"[a-z0-9._:\-]+(/[a-z0-9._\-]+)*(:[\w.\-]+)?(@\w+:[0-9a-f]{32,})?")
CALL = re.compile(r"\b(?:th|h)\.(WriteK|WriteF|WriteC)\(\s*(\"[^\"]*\"|`[^`]*`)\s*,\s*(`[^`]*`|\"(?:[^\"\\]|\\.)*\"|\w+)(?=\s*[,)+])")
NAMED = re.compile(r"\b(\w+)\s*:?=\s*(`[^`]*`)")
RUN = re.compile(r"\.Run(?:WithErr)?\(\s*\"([^\"]*)\"")
USED = re.compile(r"\b([A-Za-z]\w*)\(\s*(?:t, )?th\b")


def lay_out(source, into):
    """The folders that the Go tests in `source` build, with the files that they write."""
    made = []
    for top, _, names in os.walk(source):
        bodies, named = {}, {}
        for name in sorted(n for n in names if n.endswith("_test.go")):
            text = open(os.path.join(top, name), encoding="utf-8").read()
            named.update(NAMED.findall(text))
            for part in re.split(r"(?m)^(?=func )", text)[1:]:
                head = re.match(r"func (?:\([^)]*\) )?(\w+)", part)
                bodies[head[1]] = part
        for test in sorted(n for n in bodies if n.startswith("Test")):
            folder, todo, seen = os.path.join(into, test), [test], set()
            writes = []
            while todo:
                name = todo.pop()
                if name in seen or name not in bodies:
                    continue
                seen.add(name)
                own = {**named, **dict(NAMED.findall(bodies[name]))}
                calls = [(c[1], c[2].strip('"`'), own.get(c[3], c[3])) for c in CALL.finditer(bodies[name])]
                writes.append([c for c in calls if c[2][0] in "`\""])
                todo += USED.findall(bodies[name])
            # What a test writes itself goes over what its helpers wrote.
            for kind, path, text in (w for group in reversed(writes) for w in group):
                text = text[1:-1] if text[0] == "`" else json.loads(text)
                if kind != "WriteF":
                    path = os.path.join(path, "kustomization.yaml")
                    head = ("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" if kind == "WriteK" else
                            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n")
                    text = head + text
                path = os.path.normpath(os.path.join(folder, path.lstrip("/")))
                if path.startswith(folder + os.sep):
                    try:
                        os.makedirs(os.path.dirname(path), exist_ok=True)
                        open(path, "w", encoding="utf-8").write(text)
                    except OSError:
                        continue
            for run in sorted(set(RUN.findall(bodies[test]))):
                case = os.path.normpath(os.path.join(folder, run.lstrip("/")))
                if any(os.path.isfile(os.path.join(case, f)) for f in FILES):
                    made.append(case)
    return made


def listed(omk, argument, text=None):
    """({(image, confidence)}, [error], whether it came to an end)."""
    done = subprocess.run([*ALONE, omk, "image", "discover", argument, "-o", "json", "--offline"],
                          input=text, capture_output=True, timeout=120)
    if not done.stdout:
        return set(), [done.stderr.decode("utf-8", "replace")], False
    report = json.loads(done.stdout)
    errors = [p["reason"] for p in report["problems"] if p["severity"] == "error"]
    return {(i["image"], i["confidence"]) for i in report["images"]}, errors, True


def check(a, case):
    helm = ["--enable-helm", "--helm-command", a.helm] if a.helm else []
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "HOME": a.scratch}
    try:
        theirs = subprocess.run([*ALONE, a.kubectl, "kustomize", *helm, case], capture_output=True, timeout=120, env=env)
        mine, errors, ended = listed(a.omk, case)
    except subprocess.TimeoutExpired as late:
        return case, "late", [str(late)]
    if theirs.returncode:
        return case, "both refuse" if errors or not ended else "kubectl alone refuses", [theirs.stderr.decode("utf-8", "replace").strip()[:300]]
    expected, other, _ = listed(a.omk, "-", theirs.stdout)
    # Without a place in a text, a reason begins with the object that it is about.
    told = [f"omk alone reports: {e[:300]}" for e in errors if not e.endswith(tuple(other))]
    told += [f"missing: {image} ({c})" for image, c in sorted(expected - mine)]
    told += [f"too much: {image} ({c})" for image, c in sorted(mine - expected)]
    names = {normal(image) for image, _ in mine}
    pods = set(filter(IMAGE.fullmatch, pod_images(documents(theirs.stdout.decode("utf-8", "replace")))))
    told += [f"image of a pod is missing: {image}" for image in sorted(pods) if normal(image) not in names]
    return case, "differ" if told else "equal" if mine else "equal, without images", told


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--omk", required=True)
    ap.add_argument("--kubectl", required=True)
    ap.add_argument("--helm", help="lets kubectl render the charts that a case brings along")
    ap.add_argument("--go-tests", help="folder of Go tests whose files are laid out as cases")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--filter", default="", help="only cases whose path matches this expression")
    ap.add_argument("--show", default="differ,late", help="outcomes that are listed one by one")
    ap.add_argument("--keep", help="where the files of Go tests are laid out, and left")
    ap.add_argument("--out")
    ap.add_argument("folders", nargs="*")
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as a.scratch:
        all_cases = [c for top in a.folders for c in cases(top)]
        if a.go_tests:
            all_cases += lay_out(a.go_tests, a.keep or os.path.join(a.scratch, "go"))
        all_cases = [c for c in all_cases if re.search(a.filter, c)]
        results = []
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            for case, outcome, told in pool.map(lambda case: check(a, case), all_cases):
                results.append((case, outcome, told))
                if outcome in a.show.split(","):
                    print("\n    ".join([f"{outcome}: {case}", *told]), flush=True)
    counts = collections.Counter(outcome for _, outcome, _ in results)
    rendered = sum(n for outcome, n in counts.items() if outcome.startswith(("equal", "differ")))
    print(f"{len(results)} kustomizations, {rendered} of which kubectl renders")
    for outcome, count in sorted(counts.items()):
        print(f"  {count:5d}  {outcome}")
    if a.out:
        json.dump(results, open(a.out, "w"), indent=1)
    return 1 if counts["differ"] or counts["late"] else 0


if __name__ == "__main__":
    sys.exit(main())

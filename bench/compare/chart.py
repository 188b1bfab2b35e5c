#!/usr/bin/env python3
"""`omk chart template` beside `helm template` on the same charts, in one run, a process per chart as a user starts it.

  chart.py OMK HELM FOLDER [--rounds 3]

FOLDER is searched for charts (folders with a Chart.yaml; charts inside of charts are left out). Both are run in turn, best
of the rounds counts; a chart that helm does not render is left out and counted. Printed: the median of omk's wall time over
helm's, the ten charts with the biggest output one by one, and the peak memory of both. Exit code 1 when the median is above
0.2, when one of the ten is slower than with helm, or when omk needs more memory than helm at its peak.
"""
import argparse, os, statistics, subprocess, sys, tempfile, time


def charts(folder):
    for place, folders, files in os.walk(folder):
        folders.sort()
        if "Chart.yaml" in files:
            folders.clear()
            yield place


def run(command, env):
    """Exit code, wall seconds, peak KiB, bytes printed."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, wall, usage.ru_maxrss, out.seek(0, os.SEEK_END)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("omk"), parser.add_argument("helm"), parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows, left_out, refused = [], 0, []
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {f"HELM_{k}_HOME": home for k in ("CACHE", "CONFIG", "DATA")} | {"OMK_OFFLINE": "true"}
        for chart in charts(args.folder):
            commands = {
                "helm": [args.helm, "template", "rel", chart, "--include-crds"],
                "omk": [args.omk, "chart", "template", "rel", chart, "--include-crds"],
            }
            best = {}
            for _ in range(args.rounds):
                for name, command in commands.items():
                    code, wall, peak, size = run(command, env)
                    if code != 0:
                        break
                    before = best.get(name, (wall, peak, size))
                    best[name] = (min(wall, before[0]), max(peak, before[1]), size)
                if len(best) < 2:
                    break
            if "helm" not in best:
                left_out += 1
            elif "omk" not in best:
                refused.append(chart)
            else:
                rows.append((chart, best["helm"], best["omk"]))
    if not rows:
        sys.exit("chart.py: helm renders no chart there")
    ratios = sorted(omk[0] / helm[0] for _, helm, omk in rows)
    median = statistics.median(ratios)
    print(f"{len(rows)} charts rendered by both; {left_out} that helm does not render; {len(refused)} that only helm renders")
    for chart in refused:
        print(f"  only helm: {os.path.relpath(chart, args.folder)}")
    print(f"wall, omk over helm: median {median:.3f}, worst {ratios[-1]:.3f}, "
          f"sum {sum(o[0] for _, _, o in rows):.1f} s over {sum(h[0] for _, h, _ in rows):.1f} s")
    print(f"peak memory, MiB: omk {max(o[1] for _, _, o in rows) / 1024:.0f}, helm {max(h[1] for _, h, _ in rows) / 1024:.0f}; "
          f"charts where omk needs more: {sum(o[1] > h[1] for _, h, o in rows)}")
    for chart, helm, omk in rows:
        if omk[1] > helm[1]:
            print(f"  more memory: {os.path.relpath(chart, args.folder)} {omk[1] // 1024}/{helm[1] // 1024}")
    tenths = [ratios[len(ratios) * tenth // 10] for tenth in range(1, 10)]
    print("ratios by tenths: " + " ".join(f"{ratio:.2f}" for ratio in tenths))
    biggest = sorted(rows, key=lambda row: -row[1][2])[:10]
    print(f"{'ten biggest':<60} {'bytes':>10} {'helm s':>8} {'omk s':>8} {'ratio':>6} {'MiB':>9}")
    for chart, helm, omk in biggest:
        name = os.path.relpath(chart, args.folder)[-60:]
        print(f"{name:<60} {helm[2]:>10} {helm[0]:>8.3f} {omk[0]:>8.3f} {omk[0] / helm[0]:>6.2f} "
              f"{omk[1] // 1024:>4}/{helm[1] // 1024}")
    missed = median > 0.2 or any(o[0] > h[0] for _, h, o in biggest)
    missed = missed or max(o[1] for _, _, o in rows) > max(h[1] for _, h, _ in rows)
    sys.exit(1 if missed or refused else 0)


if __name__ == "__main__":
    main()

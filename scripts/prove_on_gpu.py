#!/usr/bin/env python3
"""Whether phitune's times on the GPU at hand are what they say, in about two minutes, with a binary that was carried there:

  scripts/prove_on_gpu.py --phitune ./phitune --library ./libphitune.so --json proof.json

1. The self-test of coldness: the flush and the rotation make the L2 cache cold, and without the flush the test must fail.
2. Cold medians of a compute-bound and of a memory-bound problem against PyTorch's event timing of the same kernels (scripts/compare_peers.py, another clock,
   another flush, another process), within 2 %.
3. Cold medians of a compute-bound and of a memory-bound kernel, alone, against Nsight Compute's gpu__time_duration, within 2 %.

What is not installed (PyTorch, ncu) is left out and named. One table, and JSON for data/. The code is 0 when everything that was compared agrees and 2 or 3 was,
1 when not, 2 for wrong usage."""
import argparse
import csv
import datetime
import io
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WITHIN = 0.02

# Whole problems with next to nothing to search: what is timed matters here, not how fast it is.
PROBLEMS = {"matrix": "b1 t16384 h16 d128 p2 bf16 ungated", "memory": "b16 t65536 h8 d64 p1 bf16 gated none"}
# One kernel each, long enough that the microseconds between an event and a kernel do not matter.
KERNELS = {"matrix": ("b1 t16384 h16 d128 p2 bf16 ungated", "quadratic", "attention"),
           "memory": ("b8 t65536 h8 d64 p2 bf16 gated", "expand_mma c1024 d_tile8 state_bf16 partial_bf16", "scan")}


class Failed(RuntimeError):
    """A step gave no number, with the reason."""


def output_of(command, seconds=300, codes=(0,)):
    """Standard output of a command. Raises Failed when it cannot be run, ends with another code, or takes too long."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{pathlib.Path(str(command[0])).name}: {error}")
    if done.returncode not in codes:
        raise Failed(f"{pathlib.Path(str(command[0])).name} ended with {done.returncode}: {(done.stderr.strip() or done.stdout.strip())[-400:]}")
    return done.stdout


def comparison(what, bound, ours, theirs, by):
    return {"what": what, "bound": bound, "phitune_ms": ours, "by": by, "their_ms": theirs, "difference": ours / theirs - 1, "agrees": abs(ours / theirs - 1) <= WITHIN}


# ---- 1. coldness


def coldness(phitune, device):
    """The answers of the self-test by what should have made the cache cold. It ends with 1 when one of them is not as it must be."""
    return json.loads(output_of([phitune, "devices", "--self-test", device, "--json"], codes=(0, 1)))


# ---- 2. whole problems against PyTorch's events


def medians_of_bench(text):
    """Samples by problem key from `phitune bench --json`."""
    samples = {}
    for row in json.loads(text)["benchmarks"]:
        if row["run_type"] == "iteration":
            samples.setdefault(row["run_name"], []).append(row["real_time"])
    return samples


def against_torch(arguments, folder):
    database, peers, report = folder / "proof.db", folder / "peers.json", folder / "report.json"
    problems = [word for text in PROBLEMS.values() for word in ("--problem", text)]
    output_of([arguments.phitune, "sweep", "--device", arguments.device, "--db", database, "--cache", folder / "cache", "--trials", 4, "--carried", 0, "--bound", 1.0,
               "--finalists", 1, "--quiet", "--json", *problems])
    keys = {row["problem"]["key"]: row["floor"]["bound"] for device in json.loads(output_of([arguments.phitune, "export", "--db", database, "--format", "json"]))["devices"]
            for row in device["problems"]}
    bench = [arguments.phitune, "bench", "--device", arguments.device, "--db", database, "--samples", arguments.samples, "--json"]
    # Before and after, so that a drift of clocks does not decide.
    samples = medians_of_bench(output_of(bench))
    output_of([sys.executable, ROOT / "scripts/compare_peers.py", "--db", database, "--library", arguments.library, "--skip", "softmax", "--skip", "retention",
               "--samples", arguments.samples, "--json", peers, *problems])
    for key, more in medians_of_bench(output_of(bench)).items():
        samples[key] += more
    theirs = {row["problem"]: row["median_ms"] for row in json.loads(peers.read_text())["results"] if row["kind"] == "phitune"}
    found = []
    for text in PROBLEMS.values():
        key = next(key for key in keys if same_problem(key, text))
        found.append(comparison(text, keys[key], statistics.median(samples[key]), theirs[text], "PyTorch events"))
    return found


def same_problem(key, text):
    """Whether a problem's key has every number of its shorthand; the problems of this script differ in them."""
    words = [word for part in text.split() for word in ([f"hq{part[1:]}", f"hk{part[1:]}"] if part[0] == "h" and part[1:].isdigit() else [part])]
    return set(words) <= set(key.split())


# ---- 3. one kernel against Nsight Compute


def durations_of(text, launch):
    """gpu__time_duration in ms of the launches with this geometry, in order, from ncu's CSV. phitune's own utilities are kernels of the same name."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    grid, block = (", ".join(str(n) for n in launch[name]) for name in ("grid", "block"))
    scale = {"nsecond": 1e-6, "ns": 1e-6, "usecond": 1e-3, "us": 1e-3, "msecond": 1, "ms": 1, "second": 1e3, "s": 1e3}
    found = []
    for row in csv.DictReader(io.StringIO("\n".join(lines))):
        if row.get("Metric Name") == "gpu__time_duration.sum" and row["Grid Size"].strip("()") == grid and row["Block Size"].strip("()") == block:
            found.append(float(row["Metric Value"].replace(",", "")) * scale[row["Metric Unit"]])
    return found


def against_ncu(arguments, bound):
    problem, shape, stage = KERNELS[bound]
    if arguments.sm90:
        shape += " sm90"
    verify = [arguments.phitune, "verify", "--in-process", "--device", arguments.device, "--problem", problem, "--shape", shape, "--stage", stage, "--seed", 1, "--json"]
    ours = json.loads(output_of(verify))[0]
    if ours["outcome"] != "ok":
        raise Failed(f"{stage} of {problem}: {ours['outcome']}: {ours['reason']}")
    ncu = [arguments.ncu, "--target-processes", "all", "--clock-control", "none", "--cache-control", "all", "--kernel-name", "phitune_kernel", "--metrics",
           "gpu__time_duration.sum", "--csv"]
    # Not timed by phitune meanwhile: a profiler changes what its self-test of coldness sees.
    durations = [ms for _ in range(3) for ms in durations_of(output_of(ncu + verify + ["--no-timing"]), ours["launch"])]
    if len(durations) < 5:
        raise Failed(f"ncu saw {len(durations)} launches of {stage} with {ours['launch']}")
    again = json.loads(output_of(verify))[0]
    return comparison(f"{stage} of {problem}", bound, statistics.median([ours["median_ms"], again["median_ms"]]), statistics.median(durations), "ncu gpu__time_duration")


# ---- all of it


def cold_row(name, seen):
    expected = "must not be cold" if name == "no flush" else "cold"
    return f"{name:<12}{seen['hot_ms']:>12.4f}{seen['cold_ms']:>12.4f}  {'cold' if seen['cold'] else 'not cold':<10}{'as it must be' if seen['right'] else 'WRONG: ' + expected}"


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phitune", required=True, help="the binary, e.g. of the preset portable")
    parser.add_argument("--library", help="libphitune.so; without it PyTorch is left out")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--ncu", default=shutil.which("ncu"), help="Nsight Compute's program")
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--sm90", action=argparse.BooleanOptionalAction, default=True, help="single kernels of the path sm90 (Hopper)")
    parser.add_argument("--json", metavar="FILE", help="everything that was seen")
    arguments = parser.parse_args(words)
    started = time.monotonic()
    record = {"format": "phitune-proof", "version": 1, "generated_at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "within": WITHIN,
              "coldness": {}, "comparisons": [], "left_out": []}

    def attempt(what, step):
        try:
            return step()
        except (Failed, KeyError, ValueError, StopIteration) as error:
            record["left_out"].append({"what": what, "reason": f"{error}" if isinstance(error, Failed) else repr(error)})
            return None

    seen = attempt("the self-test of coldness", lambda: coldness(arguments.phitune, arguments.device))
    if seen:
        record["device"], record["coldness"] = seen["device"], seen["coldness"]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.library:
            record["comparisons"] += attempt("PyTorch's events", lambda: against_torch(arguments, pathlib.Path(folder))) or []
        else:
            record["left_out"].append({"what": "PyTorch's events", "reason": "no --library"})
    for bound in KERNELS:
        found = attempt(f"Nsight Compute, {bound}-bound kernel", lambda: against_ncu(arguments, bound)) if arguments.ncu else None
        if found:
            record["comparisons"].append(found)
    if not arguments.ncu:
        record["left_out"].append({"what": "Nsight Compute", "reason": "ncu is not installed"})
    record["seconds"] = time.monotonic() - started

    print(f"{'coldness':<12}{'hot ms':>12}{'cold ms':>12}")
    for name, row in record["coldness"].items():
        print(cold_row(name, row))
    print(f"\n{'bound':<8}{'phitune ms':>12}{'their ms':>12}{'apart %':>9}  {'by':<24}what")
    for row in record["comparisons"]:
        print(f"{row['bound'].split()[0]:<8}{row['phitune_ms']:>12.4f}{row['their_ms']:>12.4f}{100 * row['difference']:>+9.2f}  {row['by']:<24}{row['what']}{'' if row['agrees'] else '  APART'}")
    for row in record["left_out"]:
        print(f"left out: {row['what']}: {row['reason']}")
    proven = bool(record["coldness"]) and all(row["right"] for row in record["coldness"].values())
    proven = proven and bool(record["comparisons"]) and all(row["agrees"] for row in record["comparisons"])
    record["proven"] = proven
    print(f"{'proven' if proven else 'NOT proven'}, {record['seconds']:.0f} s")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())

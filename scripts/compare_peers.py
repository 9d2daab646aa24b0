#!/usr/bin/env python3
"""Times what a user would run instead of phitune, beside phitune, in one process on the GPU at hand: PyTorch's causal softmax attention (cuDNN,
FlashAttention), the paper's Triton kernels (package `retention`), and phitune's tuned plans from a database, through libphitune.so.

  scripts/compare_peers.py --db phitune.db --problem "b1 t65536 h8 d64 p2 bf16 gated" --markdown peers.md --json peers.json
  scripts/compare_peers.py --db phitune.db --problem "b1 h8 d64 p2 bf16 gated" --contexts 1024,2048,4096,8192,16384,32768,65536 --json peers.json
  phitune report --db phitune.db --peers peers.json --html report.html            puts the tables, and a picture of throughput by context, in the report

Every sample is of a cold L2 cache: a buffer of three times its size is written first. The stream is then kept busy while the work is enqueued, so the
time between the two CUDA events is the GPU's alone. Samples of all peers take turns, in another order every round. Softmax attention has no gates and
another formula: it is there because it is what a user has, with the same b, t, h and d. phitune's result is checked against float64 first.

The Triton kernels tune themselves in their first call, for minutes, by keys that leave t out: problems are therefore run longest first. What is not
installed, or cannot run a problem, is named and skipped. Files are written again after every problem. The code is 0 when phitune was timed on every
problem, 1 when it was not, 2 for wrong usage, 4 without PyTorch and a GPU."""
import argparse
import ctypes
import datetime
import json
import math
import pathlib
import random
import re
import signal
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 2e-2  # relative L2 of phitune's rows, bf16 and fp16: twice what `phitune verify` allows, whose inputs have fewer digits


# ---- problems ----

FIELDS = ("b", "t", "hq", "hk", "d", "e", "p")
WORDS = {"bf16", "fp16", "gated", "ungated", "sum", "none", "bthd", "forward"}


def parse(text):
    """The fields of a problem in phitune's shorthand that peers need. Raises ValueError for what cannot be compared."""
    problem = dict(b=1, p=2, dtype="bf16", gated=True, normalised=True)
    for word in text.replace(",", " ").split():
        match = re.fullmatch(r"(b|t|hq|hk|h|d|e|p)(\d+)", word)
        if match:
            problem[match[1]] = int(match[2])
        elif word in ("bf16", "fp16"):
            problem["dtype"] = word
        elif word in ("gated", "ungated"):
            problem["gated"] = word == "gated"
        elif word in ("sum", "none"):
            problem["normalised"] = word == "sum"
        elif word not in WORDS:
            raise ValueError(f"'{word}' in \"{text}\": peers are compared on one forward problem in the layout bthd without states, e.g. \"b1 t65536 h8 d64 p2 bf16 gated\"")
    missing = [field for field in ("t", "d") if field not in problem]
    if missing:
        raise ValueError(f"\"{text}\" has no {' and no '.join(missing)}" + (" (or give --contexts)" if "t" in missing else ""))
    if ("hq" in problem) != ("hk" in problem):
        raise ValueError(f"\"{text}\": hq and hk go together")
    h = problem.pop("h", 1)
    problem.setdefault("hq", h)
    problem.setdefault("hk", h)
    problem.setdefault("e", problem["d"])
    if problem["hq"] % problem["hk"] != 0:
        raise ValueError(f"\"{text}\": hq {problem['hq']} is no multiple of hk {problem['hk']}")
    return problem


def family_of(text):
    """The problem without its t."""
    return " ".join(word for word in text.replace(",", " ").split() if not re.fullmatch(r"t\d+", word))


def at_context(text, t):
    """The problem with t tokens."""
    words = family_of(text).split()
    at = 1 if words and re.fullmatch(r"b\d+", words[0]) else 0
    return " ".join(words[:at] + [f"t{t}"] + words[at:])


def problems_of(texts, contexts):
    """Every problem at every context, each once, those with the most tokens first."""
    asked = [at_context(text, t) for text in texts for t in contexts] if contexts else list(texts)
    return sorted(dict.fromkeys(asked), key=lambda text: -parse(text)["t"] * parse(text)["b"])


# ---- libphitune.so ----


class Buffers(ctypes.Structure):
    """phitune_buffers of phitune.h; strides stay null: every tensor is contiguous."""

    _fields_ = [("size", ctypes.c_uint64)] + [(name, ctypes.c_void_p) for name in
                                             ("q", "k", "v", "log_g", "y", "initial_state", "final_state", "q_strides", "k_strides", "v_strides", "log_g_strides",
                                              "y_strides")]


class PhituneError(RuntimeError):
    pass


class Phitune:
    """A dispatcher of libphitune.so."""

    def __init__(self, library, database):
        self.c = ctypes.CDLL(str(library))
        for name in ("version", "last_error", "plan_why", "plan_text", "plan_explanation"):
            getattr(self.c, f"phitune_{name}").restype = ctypes.c_char_p
        self.c.phitune_workspace_bytes.restype = ctypes.c_int64
        self.dispatcher = ctypes.c_void_p()
        self.check(self.c.phitune_open(str(database).encode() if database else None, ctypes.byref(self.dispatcher)))

    def check(self, status):
        if status != 0:
            raise PhituneError(self.c.phitune_last_error().decode())

    def version(self):
        return self.c.phitune_version().decode()

    def prepare(self, problem):
        plan = ctypes.c_void_p()
        self.check(self.c.phitune_prepare(self.dispatcher, problem.encode(), ctypes.byref(plan)))
        return Plan(self, plan)


class Plan:
    """Kernels of one problem, loaded. Plans live until the process ends."""

    def __init__(self, phitune, handle):
        self.phitune, self.handle = phitune, handle
        self.why, self.text, self.explanation = (getattr(phitune.c, f"phitune_plan_{name}")(handle).decode() for name in ("why", "text", "explanation"))
        self.workspace_bytes = phitune.c.phitune_workspace_bytes(handle)

    def launcher(self, q, k, v, log_g, y, workspace, stream):
        """A call without arguments that enqueues the plan; pointers are integers."""
        buffers = Buffers(ctypes.sizeof(Buffers), q, k, v, log_g, y)
        arguments = (self.handle, ctypes.byref(buffers), ctypes.c_void_p(workspace), ctypes.c_int64(self.workspace_bytes), ctypes.c_void_p(stream))

        def run():
            self.phitune.check(self.phitune.c.phitune_launch(*arguments))

        return run


# ---- peers: name, kind, and make(problem text, fields) -> (run, note, error) ----


class Peers:
    """What can be timed, on PyTorch's current device and stream."""

    def __init__(self, torch, arguments):
        self.torch, self.arguments, self.phitune = torch, arguments, None
        self.list = [("phitune", "phitune", self.make_phitune), ("cuDNN softmax", "softmax", self.softmax("CUDNN_ATTENTION")),
                     ("Flash softmax", "softmax", self.softmax("FLASH_ATTENTION"))]
        self.list += [(f"retention {chunk}", "retention", self.retention(chunk)) for chunk in arguments.chunks]

    def dtype(self, f):
        return self.torch.float16 if f["dtype"] == "fp16" else self.torch.bfloat16

    def tensors(self, f):
        """q, k, v as (b, t, h, d) and the gates: mean about -1e-3, a memory of a thousand tokens."""
        torch = self.torch
        torch.manual_seed(self.arguments.seed)
        q = torch.randn(f["b"], f["t"], f["hq"], f["d"], device="cuda", dtype=self.dtype(f))
        k = torch.randn(f["b"], f["t"], f["hk"], f["d"], device="cuda", dtype=self.dtype(f))
        v = torch.randn(f["b"], f["t"], f["hk"], f["e"], device="cuda", dtype=self.dtype(f))
        log_g = torch.nn.functional.logsigmoid(7 + torch.randn(f["b"], f["t"], f["hk"], device="cuda")) if f["gated"] else None
        return q, k, v, log_g

    def make_phitune(self, text, f):
        torch = self.torch
        if self.phitune is None:
            self.phitune = Phitune(self.arguments.library, self.arguments.db)
        plan = self.phitune.prepare(text)
        q, k, v, log_g = self.tensors(f)
        y = torch.full((f["b"], f["t"], f["hq"], f["e"]), math.nan, device="cuda", dtype=self.dtype(f))
        workspace = torch.empty(max(plan.workspace_bytes, 1), dtype=torch.uint8, device="cuda")
        run = plan.launcher(q.data_ptr(), k.data_ptr(), v.data_ptr(), log_g.data_ptr() if log_g is not None else None, y.data_ptr(), workspace.data_ptr(),
                            torch.cuda.current_stream().cuda_stream)
        run.keep = (q, k, v, log_g, y, workspace)
        run()
        error = self.error(f, q, k, v, log_g, y)
        if not error <= TOLERANCE:
            raise PhituneError(f"its result is wrong: relative L2 error {error:.3g} against float64, more than {TOLERANCE:g}")
        return run, f"{plan.why}: {plan.text}", error

    def error(self, f, q, k, v, log_g, y):
        """Relative L2 error of sampled rows of y against float64, by the quadratic definition."""
        torch = self.torch
        rng = random.Random(self.arguments.seed)
        wrong = total = 0.0
        for token in sorted({0, 1, f["t"] // 2, f["t"] - 1} | {rng.randrange(f["t"]) for _ in range(12)} - {f["t"]}):
            if token < 0 or token >= f["t"]:
                continue
            b, head = rng.randrange(f["b"]), rng.randrange(f["hq"])
            kv = head // (f["hq"] // f["hk"])
            weights = (k[b, : token + 1, kv].double() @ q[b, token, head].double() / math.sqrt(f["d"])) ** f["p"]
            if log_g is not None:
                gates = log_g[b, : token + 1, kv].double().cumsum(0)
                weights = weights * torch.exp(gates[-1] - gates)
            row = weights @ v[b, : token + 1, kv].double()
            if f["normalised"]:
                row = row / weights.sum()
            wrong += float(((y[b, token, head].double() - row) ** 2).sum())
            total += float((row**2).sum())
        return math.sqrt(wrong / total)

    def softmax(self, backend):
        def make(_, f):
            torch = self.torch
            from torch.nn.attention import SDPBackend, sdpa_kernel

            q, k, v = (x.transpose(1, 2).contiguous() for x in self.tensors(f)[:3])  # its own layout
            grouped = f["hq"] != f["hk"]

            def run():
                with sdpa_kernel(getattr(SDPBackend, backend)):
                    torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)

            return run, f"PyTorch, {backend}; no gates", None

        return make

    def retention(self, chunk):
        def make(_, f):
            from retention import power_retention

            if not f["normalised"]:
                raise ValueError("it always normalises")
            if f["e"] != f["d"]:
                raise ValueError("it needs e = d")
            q, k, v, log_g = self.tensors(f)
            chunked = dict(chunk_size=chunk) if f["t"] > chunk else {}

            def run():
                with self.torch.no_grad():
                    power_retention(q, k, v, log_G=log_g, deg=f["p"], **chunked)

            return run, f"Triton kernels of the paper, chunk {chunk}" if chunked else "Triton kernels of the paper, quadratic: t is no longer than the chunk", None

        return make


# ---- time ----


class Clock:
    """Milliseconds of the GPU's own time from a cold L2 cache. Before each sample the GPU rests for `rest` times what the last one took (a tenth
    of a second at most), as phitune's own samples do: under a power cap a sample would pay for what ran before it."""

    def __init__(self, torch, rest):
        self.torch, self.rest, self.last_ms = torch, rest, 0.0
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.flush = torch.empty(3 * properties.L2_cache_size, dtype=torch.uint8, device="cuda")

    def enqueue_s(self, run):
        """How long the CPU is busy with one call."""
        self.torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        spent = time.perf_counter() - started
        self.torch.cuda.synchronize()
        return spent

    def sample(self, run, enqueue_s):
        time.sleep(min(self.rest * self.last_ms, 100) / 1e3)
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        # Cycles, at most about 2 a nanosecond: until everything is enqueued, with some to spare.
        self.torch.cuda._sleep(int(2e9 * (1.5 * enqueue_s + 50e-6)))
        begin.record()
        run()
        end.record()
        self.torch.cuda.synchronize()
        self.last_ms = begin.elapsed_time(end)
        return self.last_ms


def in_turns(clock, runs, busy, samples, seed):
    """Samples of each run, by name. Every round has them all, in another order. `busy`: how long the CPU enqueues each."""
    rng = random.Random(seed)
    times = {name: [] for name in runs}
    for _ in range(samples):
        order = list(runs)
        rng.shuffle(order)
        for name in order:
            times[name].append(clock.sample(runs[name], busy[name]))
    return times


def percentile(samples, share):
    """Linear between the samples around it."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


class TooLong(Exception):
    pass


class limit:
    """Ends what Python does within `seconds` with TooLong."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        def ring(*_):
            raise TooLong(f"did not end within {self.seconds:g} s")

        self.before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


# ---- results ----


def new_record(device, software, arguments):
    """What --json writes; docs/formats.md has the fields."""
    return {"format": "phitune-peers", "version": 1, "generated_at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "device": device,
            "software": software, "samples": arguments.samples, "rest": arguments.rest, "cold_l2": True, "results": [], "skipped": [], "crossovers": []}


def result_of(text, fields, name, kind, samples, enqueue_ms, first_call_s, note, error):
    median = statistics.median(samples)
    return {"problem": text, "family": family_of(text), **{field: fields[field] for field in FIELDS}, "peer": name, "kind": kind, "median_ms": median, "p10_ms": percentile(samples, 0.1),
            "p90_ms": percentile(samples, 0.9), "token_heads_per_s": fields["b"] * fields["t"] * fields["hq"] / median * 1e3, "enqueue_ms": enqueue_ms,
            "first_call_s": first_call_s, "note": note, "error": error, "samples_ms": samples}


def crossovers(results):
    """Per family of problems that differ in t alone, and kind of peer: from which context on phitune is ahead of the best of that kind at every longer
    one that was measured too; None when it is not ahead at the longest."""
    families = {}
    for result in results:
        families.setdefault(result["family"], {}).setdefault(result["t"], []).append(result)
    found = []
    for family, by_t in families.items():
        for kind in ("softmax", "retention"):
            ahead = []
            for t in sorted(by_t):
                ours = [r["median_ms"] for r in by_t[t] if r["kind"] == "phitune"]
                theirs = [r["median_ms"] for r in by_t[t] if r["kind"] == kind]
                if ours and theirs:
                    ahead.append((t, min(ours) < min(theirs)))
            if len(ahead) < 2:
                continue
            behind = [t for t, is_ahead in ahead if not is_ahead]
            longer = [t for t, _ in ahead if not behind or t > behind[-1]]
            found.append({"family": family, "against": kind, "from_t": longer[0] if longer else None, "contexts": [t for t, _ in ahead]})
    return found


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def markdown(record):
    out = [f"# Peers on {record['device']}", "", f"Cold L2, medians of {record['samples']} samples taken in turns, 10th to 90th percentile; " +
           ", ".join(f"{name} {version}" for name, version in record["software"].items()) + f"; {record['generated_at']}.", ""]
    by_problem = {}
    for result in record["results"]:
        by_problem.setdefault(result["problem"], []).append(result)
    out += ["| problem | peer | median, ms | p10 to p90 | / phitune | first call | note |", "|---|---|---|---|---|---|---|"]
    for problem, results in by_problem.items():
        ours = [r["median_ms"] for r in results if r["kind"] == "phitune"]
        for r in results:
            ratio = f"{r['median_ms'] / ours[0]:.2f}" if ours else "-"
            error = f"; error {r['error']:.1e}" if r["error"] is not None else ""
            out.append(f"| {cell(problem)} | {cell(r['peer'])} | {r['median_ms']:.4f} | {r['p10_ms']:.4f} to {r['p90_ms']:.4f} | {ratio} | {r['first_call_s']:.1f} s | {cell(r['note'] + error)} |")
    for crossing in record["crossovers"]:
        where = f"ahead of {crossing['against']} at every context from {crossing['from_t']} tokens up" if crossing["from_t"] else f"not ahead of {crossing['against']} at the longest context"
        out += ["", f"{crossing['family']}: phitune is {where} ({', '.join(map(str, crossing['contexts']))} were measured)."]
    if record["skipped"]:
        out += ["", "| skipped | problem | because |", "|---|---|---|"]
        out += [f"| {cell(s['peer'])} | {cell(s['problem'] or 'all')} | {cell(s['reason'])} |" for s in record["skipped"]]
    return "\n".join(out) + "\n"


def write(path, text):
    """Whole or not at all."""
    if path:
        scratch = pathlib.Path(f"{path}.new")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)


def reason_of(error):
    """One line that says what a peer lacks."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text[:200] if isinstance(error, (PhituneError, TooLong, ValueError)) and text else f"{type(error).__name__}: {text[:180]}"


# ---- the run ----


def time_problem(text, peers, clock, arguments, record):
    """Adds what could be timed to the record, and why the rest could not. Gives whether phitune is among them."""
    fields = parse(text)
    runs, busy, about = {}, {}, {}
    for name, kind, make in peers.list:
        started = time.perf_counter()
        try:
            with limit(arguments.first_call_limit):
                run, note, error = make(text, fields)
                clock.enqueue_s(run)
            first_call_s = time.perf_counter() - started
            busy[name] = min(clock.enqueue_s(run) for _ in range(3))
            runs[name], about[name] = run, (kind, first_call_s, note, error)
        except Exception as error:  # whatever a peer trips over is its reason; the others go on
            record["skipped"].append({"peer": name, "problem": text, "reason": reason_of(error)})
            print(f"  {name}: skipped: {reason_of(error)}", flush=True)
    times = in_turns(clock, runs, busy, arguments.samples, arguments.seed)
    for name, samples in times.items():
        kind, first_call_s, note, error = about[name]
        record["results"].append(result_of(text, fields, name, kind, samples, 1e3 * busy[name], first_call_s, note, error))
        r = record["results"][-1]
        print(f"  {name:26} {r['median_ms']:9.4f} ms  ({r['p10_ms']:.4f} to {r['p90_ms']:.4f}), first call {first_call_s:.1f} s  {note[:80]}", flush=True)
    return "phitune" in runs


def versions(torch):
    """Of everything that is timed; what is not there is not named here but skipped with its reason."""
    found = {"PyTorch": torch.__version__, "CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
    import importlib.metadata

    for package in ("triton", "retention"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def numbers(text):
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers like 1024,2048")
    if not values or min(values) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': every number must be at least 1")
    return values


def arguments_of(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", action="append", required=True, help="in phitune's shorthand; may be repeated")
    parser.add_argument("--contexts", type=numbers, metavar="T,T,...", help="run every problem with these numbers of tokens")
    parser.add_argument("--db", help="phitune's database with tuned winners; its built-in plans are timed, and said to be, without one")
    parser.add_argument("--library", default=str(ROOT / "build/release/harness/c_api/libphitune.so"), help="libphitune.so")
    parser.add_argument("--chunks", type=numbers, default=[1024], metavar="C,C,...", help="chunk sizes of the paper's kernels (1024)")
    parser.add_argument("--skip", action="append", default=[], choices=["softmax", "retention"], help="leave this kind of peer out; may be repeated")
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--rest", type=float, default=2, help="the GPU rests before a sample for so many times what the last one took; 0: constant load")
    parser.add_argument("--first-call-limit", type=float, default=240, metavar="SECONDS", help="of one peer on one problem, its own tuning included")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no further problem after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="every sample; phitune report --peers FILE reads it")
    parser.add_argument("--markdown", metavar="FILE", help="a table")
    arguments = parser.parse_args(words)
    if arguments.samples < 3:
        parser.error("--samples: at least 3, or there is no spread")
    if not arguments.rest >= 0:
        parser.error("--rest: at least 0")
    if not pathlib.Path(arguments.library).exists():
        parser.error(f"--library: there is no {arguments.library}; build it with: cmake --workflow --preset portable")
    try:
        arguments.problems = problems_of(arguments.problem, arguments.contexts)
    except ValueError as error:
        parser.error(f"--problem: {error}")
    return arguments


def main(words=None):
    arguments = arguments_of(words)
    try:
        import torch
    except ImportError as error:
        print(f"error: PyTorch cannot be imported ({error}): it holds the tensors and the clock of this comparison. Run it with the python3 that has PyTorch.", file=sys.stderr)
        return 4
    if not torch.cuda.is_available():
        print("error: PyTorch finds no GPU here", file=sys.stderr)
        return 4

    started = time.monotonic()
    peers, clock = Peers(torch, arguments), Clock(torch, arguments.rest)
    peers.list = [peer for peer in peers.list if peer[1] not in arguments.skip]
    record = new_record(torch.cuda.get_device_name(), versions(torch), arguments)
    record["skipped"] += [{"peer": kind, "problem": None, "reason": "left out by --skip"} for kind in dict.fromkeys(arguments.skip)]
    complete = True
    for text in arguments.problems:
        if time.monotonic() - started > arguments.seconds:
            record["skipped"].append({"peer": "all", "problem": text, "reason": f"{arguments.seconds:g} s were over"})
            complete = False
            continue
        print(text, flush=True)
        complete = time_problem(text, peers, clock, arguments, record) and complete
        if peers.phitune is not None:
            record["software"]["phitune"] = peers.phitune.version()
        record["crossovers"] = crossovers(record["results"])
        write(arguments.json, json.dumps(record, indent=1) + "\n")
        write(arguments.markdown, markdown(record))
        torch.cuda.empty_cache()
    write(arguments.json, json.dumps(record, indent=1) + "\n")
    write(arguments.markdown, markdown(record))
    print("\n" + markdown(record))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())

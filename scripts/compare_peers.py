#!/usr/bin/env python3
"""Times what a user would run instead, on the GPU at hand: PyTorch's softmax attention (cuDNN, FlashAttention) and the paper's Triton kernels
(the `retention` package), beside phitune's tuned plans from a database. Cold L2, CUDA events, medians with interquartile range.

  scripts/compare_peers.py --db phitune.db --phitune build/release/harness/cli/phitune --problem "b1 t65536 h8 d64 p2 bf16 gated"

What is not installed is named and skipped. Needs PyTorch with CUDA; standard output is a table, --json FILE keeps every sample."""
import argparse
import json
import re
import statistics
import subprocess
import sys
import time

import torch


def cold_samples(run, samples, flush):
    """Milliseconds of `run`, each after a write of more than twice the L2 cache."""
    for _ in range(2):
        run()
    times = []
    for _ in range(samples):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return times


def parse(problem):
    """The fields of phitune's problem shorthand that peers understand."""
    fields = dict(b=1, t=1024, d=64, p=2)
    for word in problem.replace(",", " ").split():
        match = re.fullmatch(r"(b|t|hq|hk|h|d|e|p)(\d+)", word)
        if match:
            fields[match[1]] = int(match[2])
    fields.setdefault("hq", fields.get("h", 1))
    fields.setdefault("hk", fields.get("h", fields["hq"]))
    fields["dtype"] = torch.float16 if "fp16" in problem else torch.bfloat16
    fields["gated"] = "gated" in problem.split()
    return fields


def softmax_peer(backend_name):
    def make(f):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        backend = getattr(SDPBackend, backend_name)
        q = torch.randn(f["b"], f["hq"], f["t"], f["d"], device="cuda", dtype=f["dtype"])
        k = torch.randn(f["b"], f["hk"], f["t"], f["d"], device="cuda", dtype=f["dtype"])
        v = torch.randn_like(k)

        def run():
            with sdpa_kernel(backend):
                torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=f["hq"] != f["hk"])

        return run

    return make


def retention_peer(chunk):
    def make(f):
        from retention import power_retention

        q = torch.randn(f["b"], f["t"], f["hq"], f["d"], device="cuda", dtype=f["dtype"])
        k = torch.randn(f["b"], f["t"], f["hk"], f["d"], device="cuda", dtype=f["dtype"])
        v = torch.randn_like(k)
        log_g = torch.nn.functional.logsigmoid(7 + torch.randn(f["b"], f["t"], f["hk"], device="cuda")) if f["gated"] else None
        return lambda: power_retention(q, k, v, log_G=log_g, deg=f["p"], chunk_size=chunk if f["t"] > chunk else None)

    return make


def phitune_samples(binary, database, problem):
    out = subprocess.run([binary, "bench", "--db", database, "--problem", problem, "--json"], check=True, capture_output=True, text=True)
    runs = [b for b in json.loads(out.stdout)["benchmarks"] if b.get("run_type") == "iteration"]
    scale = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
    return [b["real_time"] * scale[b["time_unit"]] for b in runs]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", action="append", required=True, help="phitune's shorthand; may be repeated")
    parser.add_argument("--db", help="phitune database with tuned winners")
    parser.add_argument("--phitune", default="phitune", help="the phitune binary")
    parser.add_argument("--chunks", type=int, nargs="*", default=[512, 1024], help="chunk sizes for the paper's kernels")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--json", help="write every sample here")
    arguments = parser.parse_args()

    properties = torch.cuda.get_device_properties(0)
    print(f"{properties.name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}; cold L2, medians of {arguments.samples} samples, ms")
    flush = torch.empty(3 * properties.L2_cache_size, dtype=torch.uint8, device="cuda")
    peers = {"softmax, cuDNN": softmax_peer("CUDNN_ATTENTION"), "softmax, FlashAttention": softmax_peer("FLASH_ATTENTION")}
    peers |= {f"paper's Triton kernels, chunk {c}": retention_peer(c) for c in arguments.chunks}

    record = {"device": properties.name, "torch": torch.__version__, "results": []}
    for problem in arguments.problem:
        print(f"\n{problem}\n{'':36}{'median':>9}{'IQR':>8}{'first call':>12}{'/ phitune':>11}")
        rows = []
        if arguments.db:
            rows.append(("phitune, tuned", phitune_samples(arguments.phitune, arguments.db, problem), None))
        for name, make in peers.items():
            try:
                started = time.time()
                run = make(parse(problem))
                run()
                torch.cuda.synchronize()
                first = time.time() - started
                rows.append((name, cold_samples(run, arguments.samples, flush), first))
            except Exception as error:  # a peer that cannot run this problem is named, not fatal
                print(f"{name:36}skipped: {type(error).__name__}: {str(error).splitlines()[0][:90]}", flush=True)
            torch.cuda.empty_cache()
        base = statistics.median(rows[0][1]) if arguments.db else None
        for name, samples, first in rows:
            median = statistics.median(samples)
            quartiles = statistics.quantiles(samples, n=4)
            ratio = f"{median / base:10.2f}x" if base else ""
            print(f"{name:36}{median:9.4f}{quartiles[2] - quartiles[0]:8.4f}{f'{first:.1f} s' if first else '':>12}{ratio}", flush=True)
            record["results"].append({"problem": problem, "peer": name, "samples_ms": samples, "first_call_s": first})
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(record, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())

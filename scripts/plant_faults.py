#!/usr/bin/env python3
"""Plants deliberate faults in copies of the kernel templates, one each, and says which of them a verification finds.

Every fault is a replacement of text in one template, with a stage of a plan that runs the changed line. The unchanged templates must pass
everything first. `phitune verify --templates` runs a copy without building anything, so python3, the binary and kernel_templates/ are all it takes.

  scripts/plant_faults.py                                                   on the CPU (the device host)
  scripts/plant_faults.py --device cuda:0 --json oracle.json                the oracle on a GPU
  scripts/plant_faults.py --device cuda:0 --under "compute-sanitizer --tool racecheck --error-exitcode 9" --checker racecheck --json racecheck.json
  scripts/plant_faults.py --merge host.json oracle.json racecheck.json      one table of them all, in Markdown
  scripts/plant_faults.py --write FOLDER                                    only write the copies, to FOLDER/<fault>/kernel_templates/

Under a checker it is the checker that must speak, by its exit code; what the oracle made of the same run is kept beside it. The code is 0 when
everything could be tried and, on the CPU, everything was found; 1 when the CPU missed a fault; 2 when the unchanged templates did not pass.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A plan and configs that reach the lines below: two and a half chunks, a ragged end, two query heads for one kv head.
PROBLEM = "b1 t170 hq2 hk1 d32 p2 bf16 gated"
SHAPE = "expand_mma c64 d_tile8 state_bf16 partial_bf16"
ATTENTION = "key_tile=32 m_tiles=1 min_blocks=1 q_registers=1 stages=3 warps=4"
WIDE = "b1 t400 hq2 hk1 d32 p2 bf16 gated"
MANY = "b9 t128 hq8 hk1 d16 p2 bf16 gated"
HOPPER = "b1 t170 hq2 hk1 d64 p2 bf16 gated"
PERSISTENT = "b9 t170 hq8 hk1 d32 p2 bf16 gated"
BLOCKS = "batch=1 blocks=132 m_tiles=1 min_blocks=1 query_tiles=2 stages=2 steps=4 warpgroups=1"
CORES = "expand_mma c64 d_tile8 state_bf16 partial_bf16 sm90"
TWO_SETS = "blocks=0 m_tiles=2 min_blocks=1 prefetch=2 stages=2 token_tile=64 warpgroups=1"
OVERLAPPED = "batch=2 blocks=0 m_tiles=1 min_blocks=1 query_tiles=1 score_sets=2 stages=3 steps=8 warpgroups=2"
WHOLE = "quadratic sm90"
ROWS_SCANNED = "update_scan c64 d_tile8 state_bf16 partial_bf16"
GROUPED = "blocks=0 key_groups=2 m_tiles=1 min_blocks=1 query_tiles=1 score_sets=2 stages=6 warpgroups=2"
FUSED = "attend_query c64 d_tile8 state_bf16 sm90"
AMPERE_FUSED = "attend_query c64 d_tile8 state_bf16"
SCANNED = "two_kernels c64 d_tile8 state_bf16 sm90"
CUBIC = "b1 t400 hq2 hk1 d32 p3 bf16 gated none"
WIDE_ROWS = "expand_mma c128 d_tile4 state_bf16 partial_bf16 sm90"
LONG = "expand_mma c256 d_tile8 state_bf16 partial_bf16"


def fault(name, what, file, old, new, stage, problem=PROBLEM, shape=SHAPE, config=None, configs=2):
    return dict(name=name, what=what, file=f"kernel_templates/{file}", old=old, new=new, stage=stage, problem=problem, shape=shape, config=config,
                configs=configs)


FAULTS = [
    fault("missing_barrier", "no block barrier between copying a key tile and reading it", "sm80/attention_walk.cuh",
          "      if constexpr (C.stages > 1) cp_async_wait<in_flight>();\n      block_barrier();\n",
          "      if constexpr (C.stages > 1) cp_async_wait<in_flight>();\n", "attention", WIDE, LONG, ATTENTION),
    fault("missing_wait", "no wait for the asynchronous copy of a key tile", "sm80/attention_walk.cuh",
          "      if constexpr (C.stages > 1) cp_async_wait<in_flight>();\n      block_barrier();\n", "      block_barrier();\n", "attention", WIDE, LONG,
          ATTENTION),
    fault("wait_one_short", "a wait that leaves one group more in flight", "sm80/update_block.cuh", "    cp_async_wait<C.stages - 2>();",
          "    cp_async_wait<C.stages - 1>();", "update_state", WIDE, LONG),
    fault("missing_commit", "copies that are never committed to a group", "sm80/state_product.cuh", "    cp_async_commit();\n", "", "query_state"),
    fault("missing_warp_barrier", "no warp barrier between staging a row and writing it out", "sm80/attention_output.cuh",
          "    warp_barrier();\n    char* base;", "    char* base;", "attention", WIDE, LONG, ATTENTION),
    fault("divergent_barrier", "a barrier that the first warp leaves out", "sm80/attention_walk.cuh",
          "    cp_async_wait<in_flight>();\n    block_barrier();\n    rows.hold_q();",
          "    cp_async_wait<in_flight>();\n    if (warp() > 0) block_barrier();\n    rows.hold_q();", "attention", WIDE, LONG, ATTENTION),
    fault("wrong_swizzle", "readers permute the chunks of a tile by other row bits than the writer", "common/tile.cuh",
          "  ldmatrix_x4(a, tile + tile_offset<Width>(row + (lane() & 15), column / 8 + (lane() >> 4)));",
          "  ldmatrix_x4(a, tile + tile_offset<Width>(row + (lane() & 15), column / 8 + (lane() >> 4)) % 32 + (row + (lane() & 15)) * Width * 2);",
          "attention", WIDE, LONG, ATTENTION),
    fault("fragment_off_by_one", "the diagonal's mask is one column off", "sm80/attention_rows.cuh",
          "x = offset + column <= row ? weight : 0.0f;", "x = offset + column < row ? weight : 0.0f;", "attention", WIDE, LONG, ATTENTION),
    fault("fragment_row", "the upper half of a fragment taken for the row after instead of the row 8 after", "sm80/attention_rows.cuh",
          "row = m * 16 + lane() / 4 + i / 2 * 8;", "row = m * 16 + lane() / 4 + i / 2;", "attention", WIDE, LONG, ATTENTION),
    fault("row_out_of_bounds", "the last rows of a ragged chunk are written although they are not there", "sm80/attention_output.cuh",
          "      if (row < at.length)\n        store_global_16(base", "      if (row < at.length + 16)\n        store_global_16(base", "attention",
          PROBLEM, SHAPE),
    fault("read_out_of_bounds", "keys past the end of the sequence are read", "sm80/attention_walk.cuh",
          "args.k_strides.t, at.length - token);", "args.k_strides.t, C.key_tile);", "attention", PROBLEM, SHAPE),
    fault("wrong_parity", "the two buffers of transposed keys are taken by the wrong turn", "sm80/update_block.cuh",
          "return shared_ + keys_start + (n & 1) * (copies * k_tile_bytes); }", "return shared_ + keys_start + (n / 2 & 1) * (copies * k_tile_bytes); }",
          "update_state", WIDE, LONG),
    fault("stage_reused_early", "the slot of the ring that is being read is filled again", "sm80/attention_walk.cuh",
          "      char* slot = shared_memory() + L.ring + tile % C.stages * L.stage;",
          "      char* slot = shared_memory() + L.ring + (tile < C.stages ? tile : tile + 1) % C.stages * L.stage;", "attention", WIDE, LONG, ATTENTION),
    fault("dropped_tail", "the last, ragged tile of tokens is left out", "sm80/attention_walk.cuh", "tiles = ceil_div(reach, C.key_tile),",
          "tiles = reach / C.key_tile,", "attention", PROBLEM, SHAPE),
    fault("missing_frame", "where no key tile lies before the diagonal, the state is not weighed by the rows' gates", "sm80/attention_walk.cuh",
          "(C.after_state || whole > 0)", "whole > 0", "plan", PROBLEM, AMPERE_FUSED),
    fault("missing_gate", "the scan does not decay the state by the chunk's gate", "sm80/scan.cuh",
          "sum[i] = C.gated ? sum[i] * decay + x : sum[i] + x;", "sum[i] = sum[i] + x;", "scan"),
    fault("wrong_multiplicity", "rows of the state are not weighted by how often their features occur", "sm80/scan.cuh",
          "  float factor = static_cast<float>(tspow::multiplicity(x, p, d_tile));", "  float factor = 1.0f;", "scan"),
    fault("wrong_gate_token", "the state decays by the gate of the token before the chunk's last", "sm80/scan.cuh",
          "args.t + end - 1];", "args.t + end - 2];", "plan"),
    fault("undecayed_sums", "sums are kept from chunk to chunk without the chunk's gate", "sm80/update_scan.cuh",
          "block_.c[tile][n][i] *= by;", "block_.c[tile][n][i] *= 1.0f;", "update_scan",
          "b2 t330 hq4 hk2 d16 e32 p2 bf16 gated", ROWS_SCANNED),
    fault("weights_overwritten", "weights of a tile are written where those of one are that is being read", "sm80/update_block.cuh",
          "(C.scans ? n % weight_slots : n)", "(C.scans ? n % 1 : n)", "update_scan", PROBLEM, ROWS_SCANNED),
    fault("unordered_totals", "warps read each other's totals without a barrier", "sm80/gates.cuh", "      block_barrier();\n      double before", "      double before", "gates",
          "b1 t400 h1 d32 p2 bf16 gated", LONG, None, 4),
    fault("unordered_turn", "a tile of several heads' gates is read before all of it is written", "sm80/gates.cuh",
          "    block_barrier();\n    const float* const own", "    const float* const own", "gates", "b1 t400 h4 d32 p2 bf16 gated", LONG,
          "heads=2 items=2 threads=128"),
    fault("unordered_sums", "a warp's sums are taken out of shared memory before all are there", "sm80/gates.cuh",
          "      warp_barrier();\n", "", "gates", "b1 t400 h4 d32 p2 bf16 gated", LONG, "heads=2 items=2 threads=128"),
    fault("wrong_phase", "the loading threads wait for the wrong parity of an empty slot", "sm90/attention_loader.cuh",
          "barrier_wait(Block::empty(turn), Block::phase_of(turn) ^ 1);", "barrier_wait(Block::empty(turn), Block::phase_of(turn));", "query_state", HOPPER, CORES),
    fault("too_few_bytes", "a barrier that expects half of the bytes of its bulk copy", "sm90/attention_loader.cuh",
          "barrier_arrive_expect(Block::full(turn), Bytes);", "barrier_arrive_expect(Block::full(turn), Bytes / 2);", "query_state", HOPPER,
          CORES),
    fault("missing_product_wait", "accumulators are read while their product is in flight", "sm90/state_product.cuh",
          "    wgmma_wait<0>();\n", "", "query_state", HOPPER, CORES),
    fault("missing_product_fence", "registers go into a product without a fence", "sm90/state_product.cuh", "        wgmma_fence();\n", "",
          "query_state", HOPPER, CORES),
    fault("missing_sum_wait", "the sums of a last tile are multiplied by its features while products that make them are in flight",
          "sm90/state_product.cuh", "      wgmma_wait<0>();\n", "", "query_state", CUBIC, WIDE_ROWS),
    fault("unawaited_values", "values are made of V before its copies have landed", "sm90/update_loader.cuh",
          "cp_async_wait<wide ? C.prefetch - 1 :", "cp_async_wait<wide ? C.prefetch :", "update_state", CUBIC, WIDE_ROWS),
    fault("missing_proxy_fence", "what ordinary stores wrote is multiplied without a fence of the async proxy", "sm90/update_product.cuh",
          "fence_async_shared();", "", "update_state", HOPPER, CORES, TWO_SETS),
    fault("early_matrix_release", "a slot of the ring is given back while keys are multiplied with keys", "sm90/update_matrix.cuh",
          "      wgmma_wait<0>();\n", "", "update_state", HOPPER, CORES),
    fault("missing_denominator_fence", "queries go into the product with the denominator matrix without a fence", "sm90/denominator_product.cuh",
          "      wgmma_fence();\n", "", "query_state", HOPPER, CORES),
    fault("mask_off_by_one", "a tile on the diagonal leaves out the rows' own keys", "sm90/key_tiles.cuh",
          "first + n * 8 - 8 * h <= 0 ? weight.x : 0.0f, first + n * 8 - 8 * h < 0 ? weight.y : 0.0f};",
          "first + n * 8 - 8 * h < 0 ? weight.x : 0.0f, first + n * 8 - 8 * h < -1 ? weight.y : 0.0f};", "attend_query", HOPPER, FUSED),
    fault("early_release", "a slot of the ring is given back while the product that reads it is in flight", "sm90/key_tiles.cuh",
          "    if ((M == 1 || Odd == 0) && tile > 0) ring.release(tile - 1);", "    if (M == 1 || Odd == 0) ring.release(tile);", "attend_query", "b1 t700 hq2 hk1 d64 p2 bf16 gated", "attend_query c512 d_tile8 state_bf16 sm90", OVERLAPPED),
    fault("missing_gate_wait", "a gate is read before its copy has landed", "sm90/attention_loader.cuh",
          "      if constexpr (C.gated) cp_async_wait<gates_ahead - 1>();\n", "", "attention", "b1 t700 h1 d64 p2 bf16 gated", WHOLE),
    fault("unawaited_part", "what another key group leaves is read without waiting for it", "sm90/attention.cuh",
          "    barrier_wait(Block::parts_full(), query_turn & 1);\n    PHITUNE_UNROLL\n    for (int group", "    PHITUNE_UNROLL\n    for (int group", "attention", WIDE,
          WHOLE, GROUPED),
    fault("reused_part", "a key group overwrites what the first has not read yet", "sm90/attention.cuh",
          "      barrier_wait(Block::parts_empty(), (query_turn & 1) ^ 1);\n", "", "attention", MANY, WHOLE, GROUPED.replace("blocks=0", "blocks=132")),
    fault("unawaited_partials", "partial outputs are read before their copies have landed", "sm90/attention.cuh",
          "    barrier_wait(Block::parts_full(), query_turn & 1);\n    PHITUNE_UNROLL\n    for (int i", "    PHITUNE_UNROLL\n    for (int i", "query_state", PERSISTENT, CORES, BLOCKS),
    fault("reused_partials", "the next work's partial outputs are copied over those that have not been read yet", "sm90/attention_loader.cuh",
          "    barrier_wait(Block::parts_empty(), (query_turn & 1) ^ 1);\n", "", "query_state", PERSISTENT, CORES, BLOCKS),
    fault("unwritten_update", "what other blocks write is read without waiting for them", "sm90/update_scan.cuh",
          "ahead.there += wait_for_counts(ahead.counters + ahead.there, needed - ahead.there, L.slice_blocks);", "ahead.there = needed;", "update_scan", HOPPER, SCANNED),
    fault("told_too_early", "a block says that it has written before its warps have", "sm90/update_scan.cuh",
          "      barrier_wait(written(), turn & 1);\n", "", "update_scan", HOPPER, SCANNED),
]


def plant(case, folder):
    """A copy of the templates under `folder` with the fault in it."""
    shutil.copytree(ROOT / "kernel_templates", folder / "kernel_templates", dirs_exist_ok=True)
    path = folder / case["file"]
    text = path.read_text(encoding="utf-8")
    if case["old"] not in text:
        raise LookupError(f"{case['file']} no longer holds the text that {case['name']} replaces; bring scripts/plant_faults.py up to date:\n{case['old']}")
    path.write_text(text.replace(case["old"], case["new"], 1), encoding="utf-8")


def run(words, timeout):
    """(exit code, or None past the deadline; standard output; standard error). The deadline ends everything that was started."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=timeout)
            return process.returncode, out, err
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return None, out, err


def rows_of(out):
    """What `phitune verify --json` printed, between the lines of whatever it ran under."""
    text = "\n".join(line for line in out.splitlines() if not line.startswith("========="))
    start = text.find("[\n")
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else []
    except json.JSONDecodeError:
        return []


def checker_says(out):
    """The first finding of compute-sanitizer: its lines begin with =========, and the first and the last say only who speaks and how often."""
    for line in out.splitlines():
        text = line.removeprefix("=========").strip()
        if line.startswith("=========") and text and not re.match(r"(COMPUTE-SANITIZER|(\w+ )*SUMMARY|Target|LEAK)", text):
            return text
    return "an error without a line of its own"


def verify(case, templates, arguments):
    """One run of phitune verify on a folder of templates: who found what, in how many seconds."""
    # A checker watches one process, so the GPU must be in it.
    words = shlex.split(arguments.under) + [arguments.phitune, "verify", *(["--in-process"] if arguments.under else []), "--device", arguments.device, "--problem", case["problem"], "--shape", case["shape"],
                                            "--templates", str(templates), "--json", "--no-timing"]
    if arguments.cache is not None:
        words += ["--cache", arguments.cache]
    # One token's gate hides within the rounding of a stage's mild inputs; whole plans are run on gates that close, too.
    words += ["--plans"] if case["stage"] == "plan" else ["--stage", case["stage"]]
    words += ["--config", case["config"]] if case["config"] else ["--configs", str(case["configs"])]
    started = time.monotonic()
    code, out, err = run(words, arguments.timeout)
    seconds = round(time.monotonic() - started, 1)
    rows = rows_of(out)
    wrong = [row for row in rows if row["outcome"] not in ("ok", "pruned")]
    oracle = f"{wrong[0]['outcome']}: {' / '.join(line.strip() for line in wrong[0]['reason'].splitlines()[:2])}" if wrong else ""
    if code is None:
        return dict(found=True, said=f"deadline/hang: did not end within {arguments.timeout:g} s", oracle=oracle, seconds=seconds)
    if arguments.under and code == arguments.error_code:
        return dict(found=True, said=checker_says(out + "\n" + err), oracle=oracle, seconds=seconds)
    if code < 0:
        return dict(found=True, said=f"ended by signal {-code}", oracle=oracle, seconds=seconds)
    if not rows:  # nothing was verified: no GPU, or a checker that does not know it
        last = (err.strip().splitlines() or out.strip().splitlines() or ["nothing"])[-1]
        return dict(found=False, said=f"exit code {code}: {last}", oracle=oracle, seconds=seconds, broken=True)
    if rows and not [row for row in rows if row["outcome"] != "pruned"]:
        return dict(found=False, said=f"everything was pruned: {rows[0]['reason']}", oracle=oracle, seconds=seconds, broken=True)
    if arguments.under:
        return dict(found=False, said="nothing", oracle=oracle, seconds=seconds)
    return dict(found=bool(wrong), said=oracle or "nothing", oracle=oracle, seconds=seconds)


def attempt(case, scratch, arguments):
    """What became of one fault."""
    folder = pathlib.Path(scratch) / case["name"]
    try:
        plant(case, folder)
    except LookupError as error:
        return dict(found=False, said=str(error).splitlines()[0], oracle="", seconds=0, broken=True)
    return verify(case, folder, arguments)


def plant_all(cases, arguments, record):
    """Tries every case, keeping `record` on disk as it goes, and gives the number of misses and of cases that could not be tried."""
    missed = untried = 0
    passed = {}  # what the unchanged templates did, by what is run
    with tempfile.TemporaryDirectory(prefix="phitune-faults-") as scratch:
        for case in cases:
            key = tuple(case[field] for field in ("problem", "shape", "stage", "config", "configs"))
            if key not in passed:
                passed[key] = verify(case, ROOT, arguments)
            before = passed[key]
            if before["found"] or before["oracle"] or before.get("broken"):
                said = before["said"] if before["found"] or before.get("broken") else before["oracle"]
                result = before | dict(found=False, said=f"the unchanged templates do not pass: {said}", broken=True)
            else:
                result = attempt(case, scratch, arguments)
            if result.get("broken"):
                result["said"] = f"not tried: {result['said']}"
            untried += result.get("broken", False)
            missed += not result["found"] and not result.get("broken", False)
            record["faults"].append({field: case[field] for field in ("name", "what", "file", "stage")} | result)
            write_record(arguments.json, record)
            word = "found " if result["found"] else "broken" if result.get("broken") else "missed"
            print(f"{word} {case['name']:22} {result['seconds']:6.1f} s  {result['said']}", flush=True)
    return missed, untried


def write_record(path, record):
    """Whole or not at all: a run that is killed leaves what it had."""
    if not path:
        return
    scratch = pathlib.Path(f"{path}.new")
    scratch.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)


def cell(result):
    """What a table says of one result, in short; a pipe would end the cell."""
    if result is None:
        return "not run"
    said = re.sub(r" \(relative l2[^)]*\)| in function '\w+'", "", result["said"]).replace("|", "\\|")
    if result["found"]:
        return said
    if said != "nothing":
        return said
    return "**missed**" + (f" (the oracle, in the same run: {result['oracle'].split(':')[0]})" if result["oracle"] else "")


def table(records):
    """Faults by checkers, in Markdown."""
    faults, by_name = {}, []
    for record in records:
        by_name.append({result["name"]: result for result in record["faults"]})
        for result in record["faults"]:
            faults.setdefault(result["name"], result)
    names = [record["checker"] for record in records]
    lines = ["| fault | what is wrong | stage | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for name, about in faults.items():
        cells = [cell(results.get(name)) for results in by_name]
        lines.append(f"| `{name}` | {about['what']} | {about['stage']} | " + " | ".join(cells) + " |")
    counts = [f"{sum(result['found'] for result in record['faults'])} of {len(record['faults'])}" for record in records]
    lines.append("| **found** | | | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def read_record(path):
    try:
        record = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        if not all(isinstance(record[key], kind) for key, kind in (("checker", str), ("faults", list))):
            raise ValueError("its checker is no name or its faults are no list")
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} is not what --json wrote: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phitune", default=str(ROOT / "build/release/harness/cli/phitune"), help="the phitune binary")
    parser.add_argument("--device", default="host", help="host or cuda:N")
    parser.add_argument("--under", default="", help="a command that runs phitune, e.g. compute-sanitizer with its options, --error-exitcode among them")
    parser.add_argument("--checker", help="how tables name this run; the device, and what it ran under, when left out")
    parser.add_argument("--cache", help="folder of compiled kernels, as for phitune verify")
    parser.add_argument("--only", action="append", help="this fault only; may be repeated")
    parser.add_argument("--write", metavar="FOLDER", help="only write the changed templates there")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=600, help="for one run; a fault that makes it longer counts as found")
    parser.add_argument("--json", metavar="FILE", help="keep the results there, written again after every fault")
    parser.add_argument("--merge", metavar="FILE", nargs="+", help="only print what these files of --json hold, as one table in Markdown")
    parser.add_argument("--markdown", action="store_true", help="end with the table in Markdown")
    arguments = parser.parse_args()
    if arguments.merge:
        print(table([read_record(path) for path in arguments.merge]))
        return 0

    unknown = set(arguments.only or []) - {case["name"] for case in FAULTS}
    if unknown:
        parser.error(f"no fault is named {', '.join(sorted(unknown))}; there are {', '.join(case['name'] for case in FAULTS)}")
    cases = [case for case in FAULTS if not arguments.only or case["name"] in arguments.only]
    if arguments.write:
        for case in cases:
            try:
                plant(case, pathlib.Path(arguments.write) / case["name"])
            except LookupError as error:
                sys.exit(str(error))
        print(f"{len(cases)} copies of the templates in {arguments.write}")
        return 0

    code = re.search(r"--error-exitcode[ =](\d+)", arguments.under)
    if arguments.under and not code:
        parser.error("--under needs the checker to say by its exit code that it found something: add --error-exitcode 9 to the command")
    arguments.error_code = int(code[1]) if code else None
    for program in [*shlex.split(arguments.under)[:1], arguments.phitune]:
        if not shutil.which(program):
            parser.error(f"{program} is not a program that can be run")
    record = dict(checker=arguments.checker or " ".join([arguments.device, *shlex.split(arguments.under)]), device=arguments.device, under=arguments.under,
                  timeout_s=arguments.timeout, faults=[])
    missed, untried = plant_all(cases, arguments, record)
    if arguments.markdown:
        print("\n" + table([record]))
    print(f"\n{len(cases) - missed - untried} of {len(cases)} found", file=sys.stderr)
    return 2 if untried else 1 if missed and arguments.device.startswith("host") else 0


if __name__ == "__main__":
    sys.exit(main())

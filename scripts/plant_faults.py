#!/usr/bin/env python3
"""Plants deliberate faults in copies of the kernel templates, one each, and says which of them a verification finds.

The code is 0 when all is as expected: a fault that is known to be missed says why. Every fault is a replacement of text in one template, with a stage of a plan that runs the changed line. The unchanged templates must pass
everything first. `phitune verify --templates` runs a copy without building anything.

  scripts/plant_faults.py                                                   on the CPU (the device host)
  scripts/plant_faults.py --device cuda:0                                   the oracle on a GPU
  scripts/plant_faults.py --device cuda:0 --under "compute-sanitizer --tool racecheck --error-exitcode 9"
  scripts/plant_faults.py --write FOLDER                                    only write the copies, to FOLDER/<fault>/kernel_templates/
"""
import argparse
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A plan and configs that reach the lines below: two and a half chunks, a ragged end, two query heads for one kv head.
PROBLEM = "b1 t170 hq2 hk1 d32 p2 bf16 gated"
SHAPE = "expand_mma c64 d_tile8 state_bf16 partial_bf16"
ATTENTION = "key_tile=32 m_tiles=1 min_blocks=1 q_registers=1 stages=3 warps=4"
WIDE = "b1 t400 hq2 hk1 d32 p2 bf16 gated"
HOPPER = "b1 t170 hq2 hk1 d64 p2 bf16 gated"
CORES = "expand_mma c64 d_tile8 state_bf16 partial_bf16 sm90"
LONG = "expand_mma c256 d_tile8 state_bf16 partial_bf16"


def fault(name, what, file, old, new, stage, problem=PROBLEM, shape=SHAPE, config=None, configs=2, missed_because=None):
    return dict(missed_because=missed_because, name=name, what=what, file=f"kernel_templates/{file}", old=old, new=new, stage=stage, problem=problem, shape=shape, config=config,
                configs=configs)


FAULTS = [
    fault("missing_barrier", "no block barrier between copying a key tile and reading it", "sm80/attention.cuh",
          "    if constexpr (C.stages > 1) cp_async_wait<in_flight>();\n    block_barrier();\n",
          "    if constexpr (C.stages > 1) cp_async_wait<in_flight>();\n", "attention", WIDE, LONG, ATTENTION),
    fault("missing_wait", "no wait for the asynchronous copy of a key tile", "sm80/attention.cuh",
          "    if constexpr (C.stages > 1) cp_async_wait<in_flight>();\n    block_barrier();\n", "    block_barrier();\n", "attention", WIDE, LONG,
          ATTENTION),
    fault("wait_one_short", "a wait that leaves one group more in flight", "sm80/update_state.cuh", "      cp_async_wait<C.stages - 2>();",
          "      cp_async_wait<C.stages - 1>();", "update_state", WIDE, LONG),
    fault("missing_commit", "copies that are never committed to a group", "sm80/query_state.cuh", "    cp_async_commit();\n", "", "query_state"),
    fault("missing_warp_barrier", "no warp barrier between staging a row and writing it out", "sm80/attention.cuh",
          "    warp_barrier();\n    char* base;", "    char* base;", "attention", WIDE, LONG, ATTENTION),
    fault("divergent_barrier", "a barrier that the first warp leaves out", "sm80/attention.cuh",
          "  cp_async_wait<in_flight>();\n  block_barrier();\n  rows.hold_q();",
          "  cp_async_wait<in_flight>();\n  if (warp() > 0) block_barrier();\n  rows.hold_q();", "attention", WIDE, LONG, ATTENTION),
    fault("wrong_swizzle", "readers permute the chunks of a tile by other row bits than the writer", "common/tile.cuh",
          "  ldmatrix_x4(a, tile + tile_offset<Width>(row + (lane() & 15), column / 8 + (lane() >> 4)));",
          "  ldmatrix_x4(a, tile + tile_offset<Width>(row + (lane() & 15), column / 8 + (lane() >> 4)) % 32 + (row + (lane() & 15)) * Width * 2);",
          "attention", WIDE, LONG, ATTENTION),
    fault("fragment_off_by_one", "the diagonal's mask is one column off", "sm80/attention_rows.cuh",
          "x = offset + column <= row ? weight : 0.0f;", "x = offset + column < row ? weight : 0.0f;", "attention", WIDE, LONG, ATTENTION),
    fault("fragment_row", "the upper half of a fragment taken for the row after instead of the row 8 after", "sm80/attention_rows.cuh",
          "row = m * 16 + lane() / 4 + i / 2 * 8;", "row = m * 16 + lane() / 4 + i / 2;", "attention", WIDE, LONG, ATTENTION),
    fault("row_out_of_bounds", "the last rows of a ragged chunk are written although they are not there", "sm80/attention.cuh",
          "      if (row < at.length)\n        store_global_16(base", "      if (row < at.length + 16)\n        store_global_16(base", "attention",
          PROBLEM, SHAPE),
    fault("read_out_of_bounds", "keys past the end of the sequence are read", "sm80/attention.cuh",
          "args.k_strides.t, at.length - token);", "args.k_strides.t, C.key_tile);", "attention", PROBLEM, SHAPE),
    fault("wrong_parity", "the two buffers of transposed keys are taken by the wrong turn", "sm80/update_state.cuh",
          "return shared_ + keys_start + (n & 1) * (copies * k_tile_bytes); }", "return shared_ + keys_start + (n / 2 & 1) * (copies * k_tile_bytes); }",
          "update_state", WIDE, LONG),
    fault("stage_reused_early", "the slot of the ring that is being read is filled again", "sm80/attention.cuh",
          "      char* slot = shared + layout.ring + tile % C.stages * layout.stage;",
          "      char* slot = shared + layout.ring + (tile < C.stages ? tile : tile + 1) % C.stages * layout.stage;", "attention", WIDE, LONG, ATTENTION),
    fault("dropped_tail", "the last, ragged tile of tokens is left out", "sm80/attention.cuh", "tiles = ceil_div(reach, C.key_tile),",
          "tiles = reach / C.key_tile,", "attention", PROBLEM, SHAPE),
    fault("missing_gate", "the scan does not decay the state by the chunk's gate", "sm80/scan.cuh",
          "sum[k] = C.gated ? sum[k] * decay + x : sum[k] + x;", "sum[k] = sum[k] + x;", "scan"),
    fault("wrong_multiplicity", "rows of the state are not weighted by how often their features occur", "sm80/scan.cuh",
          "  float factor = static_cast<float>(tspow::multiplicity(indices, C.p, C.d_tile));", "  float factor = 1.0f;", "scan"),
    fault("wrong_gate_token", "the state decays by the gate of the token before the chunk's last", "sm80/scan.cuh",
          "2 * static_cast<i64>(end - 1));", "2 * static_cast<i64>(end - 2));", "plan",
          missed_because="one mild gate is within the rounding, and few sampled rows follow a chunk that ends with a gate that closes"),
    fault("unordered_totals", "warps read each other's totals without a barrier", "sm80/gates.cuh", "    block_barrier();\n", "", "gates",
          "b1 t400 h1 d32 p2 bf16 gated", LONG, None, 4),
    fault("wrong_phase", "the feeding warp waits for the wrong parity of an empty slot", "sm90/query_state.cuh",
          "barrier_wait(empty(slot), (stage / C.stages & 1) ^ 1);", "barrier_wait(empty(slot), stage / C.stages & 1);", "query_state", HOPPER, CORES),
    fault("too_few_bytes", "a barrier that expects half of the bytes of its bulk copy", "sm90/query_state.cuh",
          "barrier_arrive_expect(full(slot), L.stage_bytes);", "barrier_arrive_expect(full(slot), L.stage_bytes / 2);", "query_state", HOPPER, CORES),
    fault("missing_product_wait", "accumulators are read while their product is in flight", "sm90/query_state.cuh",
          "    wgmma_wait<0>();\n", "", "query_state", HOPPER, CORES),
    fault("missing_product_fence", "registers go into a product without a fence", "sm90/query_state.cuh", "        wgmma_fence();\n", "",
          "query_state", HOPPER, CORES),
    fault("missing_proxy_fence", "what ordinary stores wrote is multiplied without a fence of the async proxy", "sm90/update_state.cuh",
          "fence_async_shared();", "", "update_state", HOPPER, CORES),
]


def plant(case, folder):
    """A copy of the templates under `folder` with the fault in it."""
    shutil.copytree(ROOT / "kernel_templates", folder / "kernel_templates", dirs_exist_ok=True)
    path = folder / case["file"]
    text = path.read_text(encoding="utf-8")
    if case["old"] not in text:
        sys.exit(f"{case['name']}: {case['file']} no longer holds the text that the fault replaces:\n{case['old']}\nBring scripts/plant_faults.py up to date.")
    path.write_text(text.replace(case["old"], case["new"], 1), encoding="utf-8")


def verify(case, templates, arguments):
    """(found, what was said): one run of phitune verify on a folder of templates."""
    words = shlex.split(arguments.under) + [arguments.phitune, "verify", "--device", arguments.device, "--problem", case["problem"], "--shape", case["shape"],
                                            "--templates", str(templates), "--json", "--no-timing"]
    # One token's gate hides within the rounding of a stage's mild inputs; whole plans are run on gates that close, too.
    words += ["--plans"] if case["stage"] == "plan" else ["--stage", case["stage"]]
    words += ["--config", case["config"]] if case["config"] else ["--configs", str(case["configs"])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=arguments.timeout, check=False)
    start = done.stdout.find("[\n")
    wrong = []
    if start >= 0:
        rows, _ = json.JSONDecoder().raw_decode(done.stdout[start:])
        wrong = [row for row in rows if row["outcome"] not in ("ok", "pruned")]
        if not [row for row in rows if row["outcome"] != "pruned"]:
            sys.exit(f"{case['name']}: everything was pruned: {rows[0]['reason']}")
    if wrong:
        return True, f"{wrong[0]['outcome']}: {' / '.join(line.strip() for line in wrong[0]['reason'].splitlines()[:2])}"
    if done.returncode != 0:
        return True, (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["?"])[-1]
    return False, "nothing"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phitune", default=str(ROOT / "build/release/harness/cli/phitune"), help="the phitune binary")
    parser.add_argument("--device", default="host", help="host or cuda:N")
    parser.add_argument("--under", default="", help="a command that runs phitune, e.g. compute-sanitizer with its options")
    parser.add_argument("--only", action="append", help="this fault only; may be repeated")
    parser.add_argument("--write", metavar="FOLDER", help="only write the changed templates there")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one fault")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    arguments = parser.parse_args()
    cases = [case for case in FAULTS if not arguments.only or case["name"] in arguments.only]

    if arguments.write:
        for case in cases:
            plant(case, pathlib.Path(arguments.write) / case["name"])
        print(f"{len(cases)} copies of the templates in {arguments.write}")
        return 0

    missed = surprises = 0
    rows = []
    with tempfile.TemporaryDirectory(prefix="phitune-faults-") as scratch:
        for case in cases:
            unchanged, said = verify(case, ROOT, arguments)
            if unchanged:
                sys.exit(f"{case['name']}: the unchanged templates do not pass, so nothing can be said of the fault: {said}")
            folder = pathlib.Path(scratch) / case["name"]
            plant(case, folder)
            found, said = verify(case, folder, arguments)
            # A miss that is understood is part of the table; one that is not, or a find where a miss was expected, is news.
            news = found == bool(case["missed_because"])
            surprises += news
            missed += not found
            rows.append((case, found, said))
            if not arguments.markdown:
                print(f"{'found ' if found else 'missed'}{' (!)' if news else '    '} {case['name']:22} {said}", flush=True)
    if arguments.markdown:
        print(f"| fault | what is wrong | stage | {arguments.device} says |\n|---|---|---|---|")
        for case, found, said in rows:
            print(f"| `{case['name']}` | {case['what']} | {case['stage']} | {said if found else '**missed**: ' + (case['missed_because'] or 'not understood')} |")
    print(f"\n{len(rows) - missed} of {len(rows)} found", file=sys.stderr)
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())

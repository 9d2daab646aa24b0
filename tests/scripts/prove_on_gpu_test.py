"""Protects scripts/prove_on_gpu.py without a GPU: a stand-in for phitune, for compare_peers and for ncu says what such programs say; what agrees, what is apart,
what is missing and what is not cold must each be told."""
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
import prove_on_gpu as proof

LAUNCH = {"grid": [2048, 1, 1], "block": [128, 1, 1], "dynamic_shared_bytes": 0}
KEYS = {"matrix": "forward b1 t16384 hq16 hk16 d128 e128 p2 bf16 ungated sum bthd", "memory": "forward b16 t65536 hq8 hk8 d64 e64 p1 bf16 gated none bthd"}
# What a real ncu prints: its own lines, then quoted CSV with a kernel of the same name but another geometry in it.
NCU = """==PROF== Connected to process 1
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"
"0","1","phitune","127.0.0.1","phitune_kernel","1","7","(256, 1, 1)","(1056, 1, 1)","0","9.0","Command line profiler metrics","gpu__time_duration.sum","nsecond","9,999,999"
"""


def ncu_row(n, unit, value):
    return f'"{n}","1","phitune","127.0.0.1","phitune_kernel","1","7","(128, 1, 1)","(2048, 1, 1)","0","9.0","Command line profiler metrics","gpu__time_duration.sum","{unit}","{value}"\n'


class Programs:
    """Answers in place of the programs that the script runs."""

    def __init__(self, torch_ms=1.01, kernel_ns=(990000,) * 6, cold=True, warm_is_cold=False, fails=()):
        self.torch_ms, self.kernel_ns, self.cold, self.warm_is_cold, self.fails, self.ran = torch_ms, kernel_ns, cold, warm_is_cold, fails, []

    def __call__(self, command, capture_output, text, timeout):
        words = [str(word) for word in command]
        self.ran.append(words)
        answer, code = self.answer(words)
        for program in self.fails:
            if any(program in word for word in words):
                answer, code = "", 7
        return subprocess.CompletedProcess(words, code, answer, "it went wrong")

    def answer(self, words):
        if words[0] == "ncu":
            return NCU + "".join(ncu_row(n, "nsecond", f"{ns:,}") for n, ns in enumerate(self.kernel_ns)), 0
        if "compare_peers.py" in words[1]:
            results = [{"problem": text, "kind": "phitune", "median_ms": self.torch_ms} for text in proof.PROBLEMS.values()]
            pathlib.Path(words[words.index("--json") + 1]).write_text(json.dumps({"results": results}))
            return "", 0
        if words[1] == "devices":
            rows = {"flush": {"cold": self.cold, "right": self.cold}, "rotation": {"cold": True, "right": True},
                    "no flush": {"cold": self.warm_is_cold, "right": not self.warm_is_cold}}
            for row in rows.values():
                row.update(hot_ms=0.01, cold_ms=0.02)
            return json.dumps({"device": {"name": "NVIDIA Test"}, "coldness": rows}), 0 if self.cold and not self.warm_is_cold else 1
        if words[1] == "export":
            problems = [{"problem": {"key": KEYS[bound]}, "floor": {"bound": bound}} for bound in ("memory", "matrix")]
            return json.dumps({"devices": [{"problems": problems}]}), 0
        if words[1] == "bench":
            rows = [{"run_type": "iteration", "run_name": key, "real_time": ms} for key in KEYS.values() for ms in (1.0, 1.0, 1.2)]
            return json.dumps({"benchmarks": rows + [{"run_type": "aggregate", "run_name": "x", "real_time": 9}]}), 0
        if words[1] == "verify":
            return json.dumps([{"outcome": "ok", "reason": "", "median_ms": 1.0, "launch": LAUNCH}]), 0
        return "", 0


def prove(programs, *words):
    """The script's code, what it printed and what it wrote."""
    with tempfile.TemporaryDirectory() as folder, unittest.mock.patch("subprocess.run", programs), contextlib.redirect_stdout(io.StringIO()) as out:
        file = pathlib.Path(folder) / "proof.json"
        code = proof.main(["--phitune", "./phitune", "--json", str(file), *words])
        return code, out.getvalue(), json.loads(file.read_text())


EVERYTHING = ("--library", "./libphitune.so", "--ncu", "ncu")


class Proof(unittest.TestCase):
    def test_what_agrees_is_proven(self):
        code, out, record = prove(Programs(), *EVERYTHING)
        self.assertEqual(code, 0, out)
        self.assertTrue(record["proven"])
        self.assertEqual([(row["bound"], row["by"]) for row in record["comparisons"]],
                         [("matrix", "PyTorch events"), ("memory", "PyTorch events"), ("matrix", "ncu gpu__time_duration"), ("memory", "ncu gpu__time_duration")])
        self.assertEqual(record["left_out"], [])
        self.assertEqual(record["device"]["name"], "NVIDIA Test")
        self.assertAlmostEqual(record["comparisons"][2]["their_ms"], 0.99)

    def test_what_is_apart_by_more_than_two_per_cent_is_not(self):
        for programs in (Programs(torch_ms=1.03), Programs(torch_ms=0.97), Programs(kernel_ns=(960000,) * 6)):
            code, out, record = prove(programs, *EVERYTHING)
            self.assertEqual(code, 1)
            self.assertIn("APART", out)
            self.assertFalse(record["proven"])

    def test_a_flush_that_does_not_work_or_a_test_that_cannot_fail_is_not(self):
        for programs, words in ((Programs(cold=False), "WRONG: cold"), (Programs(warm_is_cold=True), "WRONG: must not be cold")):
            code, out, _ = prove(programs, *EVERYTHING)
            self.assertEqual(code, 1)
            self.assertIn(words, out)

    def test_what_is_missing_is_named_and_the_rest_is_done(self):
        code, out, record = prove(Programs(fails=("compare_peers.py",)), *EVERYTHING)
        self.assertEqual(len(record["comparisons"]), 2)
        self.assertIn("left out: PyTorch's events: ", out)
        self.assertIn("ended with 7: it went wrong", out)
        self.assertEqual(code, 0)
        code, out, record = prove(Programs(kernel_ns=(990000,)), *EVERYTHING)
        self.assertIn("ncu saw 3 launches", out)
        with unittest.mock.patch("shutil.which", lambda name: None):
            code, out, record = prove(Programs())
        self.assertEqual([row["what"] for row in record["left_out"]], ["PyTorch's events", "Nsight Compute"])
        self.assertEqual(code, 1, "nothing was compared")

    def test_without_a_gpu_nothing_is_proven(self):
        code, _, record = prove(Programs(fails=("phitune",)), *EVERYTHING)
        self.assertEqual(code, 1)
        self.assertEqual(record["comparisons"], [])

    def test_durations_are_those_of_the_kernel_in_any_unit(self):
        text = NCU + ncu_row(1, "usecond", "1,234.5") + ncu_row(2, "ms", "2") + ncu_row(3, "ns", "500")
        self.assertEqual(proof.durations_of(text, LAUNCH), [1.2345, 2, 0.0005])

    def test_problems_of_the_script_are_told_apart_by_their_keys(self):
        for bound, text in proof.PROBLEMS.items():
            self.assertEqual([name for name, key in KEYS.items() if proof.same_problem(key, text)], [bound])


@unittest.skipUnless("PHITUNE_BINARY" in os.environ, "needs the binary: PHITUNE_BINARY")
class WithTheBinary(unittest.TestCase):
    def test_it_takes_what_the_script_says(self):
        """Every command line of the script is one that the real binary understands: none ends as wrong usage (2)."""
        programs = Programs()
        prove(programs, *EVERYTHING)
        for words in programs.ran:
            if words[0] != "./phitune":
                continue
            kept = [word if not word.startswith("/") else "/nowhere/file" for word in words[1:]]
            done = subprocess.run([os.environ["PHITUNE_BINARY"], *kept], capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 2, f"{kept}: {done.stderr}")


if __name__ == "__main__":
    unittest.main()

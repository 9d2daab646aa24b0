"""Protects scripts/plant_faults.py: every fault still fits its template, and what a run says of it, deadlines, checkers and GPUs that are not there included."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "plant_faults.py"
sys.dont_write_bytecode = True
sys.path.insert(0, str(SCRIPT.parent))
import plant_faults

# Stands for phitune: the templates of the checkout are right, others behave as the word in its own name says.
PHITUNE = """#!{python}
import json, os, pathlib, sys, time
templates = pathlib.Path(sys.argv[sys.argv.index("--templates") + 1])
mode = pathlib.Path(sys.argv[0]).name
if mode == "nodevice": sys.exit("error: no GPU")
if templates != pathlib.Path({root!r}):
    if mode == "hang": time.sleep(60)
    if mode == "die": os.kill(os.getpid(), 11)
    if mode == "find":
        print("[\\n" + json.dumps({{"what": "x", "outcome": "wrong_result", "reason": "off by one | two", "n": 1}}) + "\\n]")
        sys.exit(1)
print("[\\n" + json.dumps({{"what": "x", "outcome": "pruned" if mode == "prune" else "ok", "reason": "too large"}}) + "\\n]")
"""
# Stands for compute-sanitizer: complains of every copy, in the middle of what it runs.
CHECKER = """#!{python}
import subprocess, sys
command = sys.argv[sys.argv.index("--error-exitcode") + 2:]
done = subprocess.run(command, capture_output=True, text=True)
print("========= COMPUTE-SANITIZER")
first, rest = done.stdout.split("\\n", 1)
faulty = "phitune-faults-" in " ".join(command)
print(first)
if faulty: print("========= Invalid __global__ write of size 2 bytes\\n=========     at phitune_kernel")
print(rest)
print("========= ERROR SUMMARY: %d errors" % faulty)
sys.exit(9 if faulty else done.returncode)
"""


class PlantFaults(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def program(self, name, text):
        path = self.folder / name
        path.write_text(text.format(python=sys.executable, root=str(ROOT)))
        path.chmod(0o755)
        return str(path)

    def run_script(self, mode, *words):
        self.file = self.folder / "out.json"
        done = subprocess.run([sys.executable, str(SCRIPT), "--phitune", self.program(mode, PHITUNE), "--json", str(self.file), *words], capture_output=True,
                              text=True, check=False, timeout=50)
        self.said = done.stdout + done.stderr
        self.faults = json.loads(self.file.read_text())["faults"] if self.file.exists() else []
        return done.returncode

    def test_every_fault_fits_its_template(self):
        for case in plant_faults.FAULTS:
            with self.subTest(case["name"]):
                plant_faults.plant(case, self.folder / case["name"])
                changed = (self.folder / case["name"] / case["file"]).read_text()
                self.assertNotEqual(changed, (ROOT / case["file"]).read_text())
        self.assertEqual(len({case["name"] for case in plant_faults.FAULTS}), len(plant_faults.FAULTS))

    def test_what_the_oracle_finds_is_found(self):
        self.assertEqual(self.run_script("find", "--only", "missing_wait", "--only", "missing_gate", "--checker", "oracle"), 0, self.said)
        self.assertEqual([f["found"] for f in self.faults], [True, True])
        self.assertEqual(self.faults[0]["said"], "wrong_result: off by one | two")

    def test_a_miss_is_a_failure_on_the_cpu_and_a_fact_on_a_gpu(self):
        self.assertEqual(self.run_script("miss", "--only", "missing_wait"), 1, self.said)
        self.assertEqual(self.run_script("miss", "--only", "missing_wait", "--device", "cuda:0"), 0, self.said)
        self.assertFalse(self.faults[0]["found"])

    def test_a_hang_is_found_by_the_deadline(self):
        self.assertEqual(self.run_script("hang", "--only", "missing_wait", "--timeout", "1.5"), 0, self.said)
        self.assertTrue(self.faults[0]["found"])
        self.assertIn("deadline/hang", self.faults[0]["said"])

    def test_a_crash_is_found(self):
        self.assertEqual(self.run_script("die", "--only", "missing_wait", "--device", "cuda:0"), 0, self.said)
        self.assertEqual((self.faults[0]["found"], self.faults[0]["said"]), (True, "ended by signal 11"))

    def test_no_gpu_and_pruned_configs_are_not_tried_and_never_found(self):
        for mode, why in (("nodevice", "no GPU"), ("prune", "too large")):
            self.assertEqual(self.run_script(mode, "--only", "missing_wait", "--device", "cuda:0"), 2, self.said)
            self.assertFalse(self.faults[0]["found"])
            self.assertIn("not tried", self.faults[0]["said"])
            self.assertIn(why, self.faults[0]["said"])

    def test_a_checker_speaks_by_its_exit_code(self):
        under = self.program("sanitizer", CHECKER) + " --tool memcheck --error-exitcode 9"
        self.assertEqual(self.run_script("find", "--only", "row_out_of_bounds", "--under", under, "--checker", "memcheck", "--device", "cuda:0"), 0, self.said)
        self.assertEqual(self.faults[0]["said"], "Invalid __global__ write of size 2 bytes")
        self.assertEqual(self.faults[0]["oracle"], "wrong_result: off by one | two")
        self.assertEqual(self.run_script("find", "--only", "missing_wait", "--under", "true"), 2, "a checker without an exit code of its own")

    def test_merge_makes_one_table(self):
        records = []
        for name, results in (("host", dict(a=True, b=True)), ("memcheck", dict(a=False))):
            path = self.folder / name
            path.write_text(json.dumps(dict(checker=name, faults=[dict(name=fault, what="w", stage="s", found=found, said="x | y" if found else "nothing", oracle="")
                                                                  for fault, found in results.items()])))
            records.append(str(path))
        done = subprocess.run([sys.executable, str(SCRIPT), "--merge", *records], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.splitlines(), ["| fault | what is wrong | stage | host | memcheck |", "|---|---|---|---|---|", "| `a` | w | s | x \\| y | **missed** |",
                                                    "| `b` | w | s | x \\| y | not run |", "| **found** | | | 2 of 2 | 0 of 1 |"])
        pathlib.Path(records[0]).write_text("{}")
        done = subprocess.run([sys.executable, str(SCRIPT), "--merge", *records], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is not what --json wrote", done.stderr)


if __name__ == "__main__":
    unittest.main()

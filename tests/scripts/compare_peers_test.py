"""Protects scripts/compare_peers.py as far as it goes without a GPU: problems, turns, percentiles, crossovers, what its files hold, and
libphitune.so through ctypes. PHITUNE_LIBRARY names what was built; without it the tests that need it are skipped."""
import argparse
import contextlib
import io
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
import compare_peers

LIBRARY = os.environ.get("PHITUNE_LIBRARY")


class FakeClock:
    """Every run takes what it says; the order of the samples is kept."""

    def __init__(self):
        self.order = []
        self.torch = argparse.Namespace(cuda=argparse.Namespace(empty_cache=lambda: None))

    def enqueue_s(self, run):
        run()
        return 1e-5

    def sample(self, run, enqueue_s):
        self.order.append(run)
        return run()


def arguments(*words):
    return compare_peers.arguments_of(["--library", __file__, "--problem", "b1 h8 d64 p2 bf16 gated", *words])


class Problems(unittest.TestCase):
    def test_fields_are_those_of_phitunes_shorthand(self):
        self.assertEqual(compare_peers.parse("b2 t4096 h8 d64"), dict(b=2, t=4096, hq=8, hk=8, d=64, e=64, p=2, dtype="bf16", gated=True, normalised=True))
        f = compare_peers.parse("t100 hq8,hk2 d32 e64 p3 fp16 ungated none")
        self.assertEqual((f["b"], f["hq"], f["hk"], f["e"], f["p"], f["dtype"], f["gated"], f["normalised"]), (1, 8, 2, 64, 3, "fp16", False, False))

    def test_what_cannot_be_compared_is_named(self):
        for text, part in (("t64 h8 d64 final", "final"), ("t64 h8 d64 bhtd", "bhtd"), ("h8 d64", "t"), ("t64 h8", "no d"), ("t64 hq8 d64", "go together"),
                           ("t64 hq6 hk4 d64", "multiple")):
            with self.assertRaises(ValueError) as caught:
                compare_peers.parse(text)
            self.assertIn(part, str(caught.exception))

    def test_contexts_replace_t_and_the_longest_is_first(self):
        self.assertEqual(compare_peers.problems_of(["b1 t5 h8 d64", "h4 d32 b2"], [1024, 4096]),
                         ["t4096 h4 d32 b2", "b1 t4096 h8 d64", "t1024 h4 d32 b2", "b1 t1024 h8 d64"])
        self.assertEqual(compare_peers.family_of("b1 t5 h8 d64"), "b1 h8 d64")

    def test_wrong_arguments_end_with_2_and_a_reason(self):
        for words, part in ((["--contexts", "1024,x"], "no list of numbers"), (["--contexts", "0"], "at least 1"), ([], "no t"), (["--contexts", "64", "--samples", "2"], "at least 3"),
                            (["--contexts", "64", "--library", "/nowhere.so"], "cmake --workflow --preset portable"), (["--contexts", "64", "--skip", "all"], "invalid choice")):
            said = io.StringIO()
            with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(said):
                arguments(*words)
            self.assertEqual(caught.exception.code, 2)
            self.assertIn(part, said.getvalue())

    def test_without_pytorch_it_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "torch.py").write_text("raise ImportError('none here')")
            done = subprocess.run([sys.executable, str(ROOT / "scripts/compare_peers.py"), "--library", __file__, "--problem", "t64 h8 d64"], capture_output=True, text=True,
                                  check=False, env={**os.environ, "PYTHONPATH": folder})
        self.assertEqual(done.returncode, 4)
        self.assertIn("PyTorch cannot be imported (none here)", done.stderr)


class Time(unittest.TestCase):
    def test_percentiles_lie_between_samples(self):
        self.assertEqual(compare_peers.percentile([3, 1, 2], 0.5), 2)
        self.assertAlmostEqual(compare_peers.percentile([0, 10], 0.9), 9)
        self.assertEqual(compare_peers.percentile([4], 0.1), 4)

    def test_samples_take_turns_in_changing_order(self):
        clock, runs = FakeClock(), {name: (lambda value=value: value) for value, name in enumerate("abcd")}
        times = compare_peers.in_turns(clock, runs, dict.fromkeys(runs, 0), 20, seed=1)
        self.assertEqual(times, {name: [value] * 20 for value, name in enumerate("abcd")})
        rounds = [tuple(clock.order[i : i + 4]) for i in range(0, 80, 4)]
        self.assertTrue(all(set(one) == set(runs.values()) for one in rounds))
        self.assertGreater(len(set(rounds)), 5)

    def test_a_first_call_ends_at_its_limit(self):
        started = time.monotonic()
        with self.assertRaises(compare_peers.TooLong), compare_peers.limit(0.2):
            time.sleep(5)
        self.assertLess(time.monotonic() - started, 3)
        time.sleep(0.3)  # and it does not ring again


class Results(unittest.TestCase):
    def setUp(self):
        self.record = compare_peers.new_record("NVIDIA Test", {"PyTorch": "2.11"}, arguments("--contexts", "64"))

    def add(self, t, **ms):
        for kind, value in ms.items():
            text = f"b1 t{t} h8 d64 p2 bf16 gated"
            self.record["results"].append(compare_peers.result_of(text, compare_peers.parse(text), {"softmax": "cuDNN softmax", "retention": "retention 1024"}.get(kind, kind), kind, [value, 1.1 * value, value], 0.02,
                                                                  1.5, "a | note", 0.003 if kind == "phitune" else None))
        self.record["crossovers"] = compare_peers.crossovers(self.record["results"])

    def test_a_crossover_holds_at_every_longer_context(self):
        self.add(16384, phitune=1, softmax=3)
        self.add(1024, phitune=1, softmax=2)
        self.assertEqual([c["from_t"] for c in self.record["crossovers"]], [1024])
        self.add(4096, phitune=2, softmax=1)
        self.assertEqual(self.record["crossovers"], [{"family": "b1 h8 d64 p2 bf16 gated", "against": "softmax", "from_t": 16384, "contexts": [1024, 4096, 16384]}])
        self.add(65536, phitune=9, softmax=8)
        self.assertIsNone(self.record["crossovers"][0]["from_t"])

    def test_a_peer_that_fails_is_named_and_the_others_are_timed(self):
        def broken(*_):
            raise ImportError("No module named 'retention'")

        peers = argparse.Namespace(list=[("phitune", "phitune", lambda *_: (lambda: 1.0, "exact: plan", 0.003)), ("retention 64", "retention", broken)])
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertTrue(compare_peers.time_problem("t64 h8 d64", peers, FakeClock(), arguments("--contexts", "64"), self.record))
            peers.list.pop(0)
            self.assertFalse(compare_peers.time_problem("t64 h8 d64", peers, FakeClock(), arguments("--contexts", "64"), self.record))
        self.assertEqual([r["peer"] for r in self.record["results"]], ["phitune"])
        self.assertEqual(self.record["skipped"][0], {"peer": "retention 64", "problem": "t64 h8 d64", "reason": "ImportError: No module named 'retention'"})

    def test_the_table_has_ratios_and_what_was_skipped(self):
        self.add(65536, phitune=0.75, softmax=9.0)
        self.record["skipped"].append({"peer": "retention", "problem": None, "reason": "not | there"})
        text = compare_peers.markdown(self.record)
        self.assertIn("| 12.00 | 1.5 s | a \\| note |", text)
        self.assertIn("| 1.00 | 1.5 s | a \\| note; error 3.0e-03 |", text)
        self.assertIn("| retention | all | not \\| there |", text)

    def test_a_whole_run_on_a_pytorch_that_only_pretends(self):
        """Softmax is timed, what cannot be loaded is skipped by name, and files are written; the code says that phitune is missing."""
        torch = unittest.mock.MagicMock()
        torch.__version__, torch.version.cuda = "2.0-pretended", "13.0"
        torch.backends.cudnn.version.return_value = 91000
        torch.cuda.get_device_name.return_value = "NVIDIA Pretended"
        torch.cuda.get_device_properties.return_value.L2_cache_size = 1000
        torch.cuda.Event.return_value.elapsed_time.side_effect = itertools.cycle([1.0, 2.0, 3.0])
        modules = {"torch": torch, "torch.nn": torch.nn, "torch.nn.attention": torch.nn.attention, "retention": None}
        with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.dict(sys.modules, modules), contextlib.redirect_stdout(io.StringIO()) as said:
            files = [str(pathlib.Path(folder) / name) for name in ("peers.json", "peers.md")]
            code = compare_peers.main(["--library", __file__, "--problem", "b1 h2 d64 p2", "--contexts", "64,256", "--samples", "6", "--json", files[0], "--markdown", files[1]])
            record, text = json.loads(pathlib.Path(files[0]).read_text()), pathlib.Path(files[1]).read_text()
        self.assertEqual(code, 1)
        self.assertEqual([(r["t"], r["peer"], len(r["samples_ms"])) for r in record["results"]],
                         [(t, peer, 6) for t in (256, 64) for peer in ("cuDNN softmax", "Flash softmax")])
        skipped = {(s["peer"], s["problem"]): s["reason"] for s in record["skipped"]}
        self.assertEqual(set(skipped), {(peer, f"b1 t{t} h2 d64 p2") for t in (64, 256) for peer in ("phitune", "retention 1024")})
        self.assertIn("OSError", skipped["phitune", "b1 t64 h2 d64 p2"])
        self.assertIn("ModuleNotFoundError", skipped["retention 1024", "b1 t64 h2 d64 p2"])
        self.assertEqual(torch.cuda._sleep.call_count, 24)
        self.assertIn("# Peers on NVIDIA Pretended", text)
        self.assertIn(text, said.getvalue())

    def test_the_file_is_the_one_that_reports_are_tested_with(self):
        """tests/reports/peers.json: what write() makes here, what reports_test and cli_test read. Delete it and run this test to make it anew."""
        self.add(1024, phitune=0.02, softmax=0.03)
        self.add(4096, phitune=0.05, softmax=0.04, retention=1.1)
        self.add(65536, phitune=0.75, softmax=9.0, retention=5.6)
        self.record["skipped"].append({"peer": "Flash softmax", "problem": None, "reason": "left out by --skip"})
        self.record["generated_at"] = "2025-01-31T13:00:00Z"
        fixture = ROOT / "tests" / "reports" / "peers.json"
        text = json.dumps(self.record, indent=1) + "\n"
        if not fixture.exists():
            compare_peers.write(fixture, text)
        self.assertEqual(text, fixture.read_text(encoding="utf-8"))


@unittest.skipUnless(LIBRARY, "PHITUNE_LIBRARY is not set")
class Library(unittest.TestCase):
    def test_errors_come_with_their_text(self):
        with self.assertRaises(compare_peers.PhituneError) as caught:
            compare_peers.Phitune(LIBRARY, "/nowhere/no-such.db")
        self.assertIn("no-such.db", str(caught.exception))

    def test_the_structure_is_the_one_of_phitune_h(self):
        # The size travels with every launch, and a null plan is refused only after it.
        phitune = compare_peers.Phitune.__new__(compare_peers.Phitune)
        phitune.c = compare_peers.ctypes.CDLL(LIBRARY)
        phitune.c.phitune_last_error.restype = compare_peers.ctypes.c_char_p
        buffers = compare_peers.Buffers(compare_peers.ctypes.sizeof(compare_peers.Buffers))
        with self.assertRaisesRegex(compare_peers.PhituneError, "plan is null"):
            phitune.check(phitune.c.phitune_launch(None, compare_peers.ctypes.byref(buffers), None, compare_peers.ctypes.c_int64(0), None))


if __name__ == "__main__":
    unittest.main()

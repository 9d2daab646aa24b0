"""Protects scripts/compare_sweeps.py: what is the same, what both sweeps could not tell apart, and what is another winner."""
import contextlib
import io
import json
import pathlib
import sqlite3
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))
import compare_sweeps


def row(winner, ms, tied, width=0.004):
    finalists = [{"plan": plan, "tied": plan in tied, "difference_low": -width / 2, "difference_high": width / 2} for plan in "ABC"]
    return {"name": "p", "problem": "p", "winner": {"plan": winner, "median_ms": ms}, "finalists": finalists}


def run(first, second):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
        files = [pathlib.Path(folder) / name for name in ("a.json", "b.json", "out.json")]
        for file, rows in zip(files, (first, second)):
            file.write_text(json.dumps({"problems": rows}))
        code = compare_sweeps.main([str(files[0]), str(files[1]), "--json", str(files[2])])
        return code, out.getvalue(), json.loads(files[2].read_text())


class Sweeps(unittest.TestCase):
    def test_the_same_winner(self):
        code, out, record = run([row("A", 1.0, "A")], [row("A", 1.01, "AB")])
        self.assertEqual(code, 0)
        self.assertEqual(record["problems"][0]["winner"], "same")
        self.assertAlmostEqual(record["summary"]["largest_apart"], 0.01)
        self.assertAlmostEqual(record["summary"]["widest_percent"], 0.4)

    def test_tied_only_when_both_say_so(self):
        for tied, word, expected in (("AB", "tied", 0), ("B", "other", 1)):
            code, _, record = run([row("A", 1.0, "AB")], [row("B", 1.0, tied)])
            self.assertEqual((code, record["problems"][0]["winner"]), (expected, word))

    def test_a_problem_without_a_winner_is_named(self):
        code, out, record = run([row("A", 1.0, "A")], [{"name": "p", "problem": "p", "reason": "nothing fits"}])
        self.assertIn("no winner: nothing fits", out)
        self.assertEqual(record["summary"]["none"], 1)

    def test_databases_say_the_same_as_summaries(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
            files = []
            for n, (winner, tied) in enumerate((("A", "AB"), ("B", "AB"))):
                files.append(str(pathlib.Path(folder) / f"{n}.db"))
                with contextlib.closing(sqlite3.connect(files[-1])) as database:
                    database.executescript("""
                        CREATE TABLE sweep (id INTEGER); INSERT INTO sweep VALUES (1), (2);
                        CREATE TABLE problem (id INTEGER, key TEXT); INSERT INTO problem VALUES (7, 'forward b1');
                        CREATE TABLE plan (id INTEGER, text TEXT, problem_id INTEGER); INSERT INTO plan VALUES (0, 'A', 7), (1, 'B', 7), (2, 'C', 7);
                        CREATE TABLE plan_trial (sweep_id INTEGER, plan_id INTEGER, outcome TEXT, median_ms REAL, tied INTEGER, difference_low REAL, difference_high REAL);
                        CREATE TABLE winner_view (problem TEXT, plan TEXT, median_ms REAL);
                        INSERT INTO plan_trial VALUES (1, 2, 'ok', 0.1, 1, 0, 0);""")
                    for plan, name in enumerate("ABC"):
                        database.execute("INSERT INTO plan_trial VALUES (2, ?, 'ok', 1.0, ?, -0.001, 0.002)", (plan, int(name in tied)))
                    database.execute("INSERT INTO winner_view VALUES ('forward b1', ?, ?)", (winner, 1.0 + n / 100))
                    database.commit()
            self.assertEqual(compare_sweeps.main(files), 0)
        self.assertIn("0 of 1 winners the same, 1 tied in both sweeps", out.getvalue())
        self.assertIn("widest final interval 0.30 %", out.getvalue())


if __name__ == "__main__":
    unittest.main()

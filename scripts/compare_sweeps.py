#!/usr/bin/env python3
"""Two sweeps of one suite, each a database of one sweep or what `phitune sweep --json` printed: whether the winners are the same, how far their medians are apart, how wide the final intervals are.

  scripts/compare_sweeps.py first.db second.db --json twice.json

A winner is "same", or "tied" when each sweep found that it cannot tell the two plans apart (they lie in both sets of tied plans), or "other". The code is 0 when
none is "other"."""
import argparse
import contextlib
import json
import pathlib
import sqlite3
import sys


def rows_of_database(path):
    """What the summary of a database's last sweep says of each problem."""
    with contextlib.closing(sqlite3.connect(f"{pathlib.Path(path).resolve().as_uri()}?mode=ro", uri=True)) as database:
        (sweep,) = database.execute("SELECT max(id) FROM sweep").fetchone()
        rows = {}
        for problem, plan, median, tied, low, high in database.execute(
                "SELECT problem.key, plan.text, median_ms, tied, difference_low, difference_high FROM plan_trial JOIN plan ON plan.id = plan_id "
                "JOIN problem ON problem.id = problem_id WHERE sweep_id = ? AND outcome = 'ok' AND tied IS NOT NULL", (sweep,)):
            row = rows.setdefault(problem, {"name": problem.removeprefix("forward "), "problem": problem, "finalists": []})
            row["finalists"].append({"plan": plan, "tied": tied, "difference_low": low or 0.0, "difference_high": high or 0.0})
        for problem, plan, median in database.execute("SELECT problem, plan, median_ms FROM winner_view"):
            rows.setdefault(problem, {"name": problem, "problem": problem})["winner"] = {"plan": plan, "median_ms": median}
    return list(rows.values())


def by_problem(path):
    data = pathlib.Path(path).read_bytes()
    rows = rows_of_database(path) if data.startswith(b"SQLite format 3") else json.loads(data)["problems"]
    return {row["problem"]: row for row in rows}


def tied(row):
    """Plans that could not be told apart from the fastest."""
    return [finalist["plan"] for finalist in row.get("finalists", []) if finalist["tied"]]


def width(row):
    """The widest interval of a paired difference among them, in per cent."""
    return max((100 * (f["difference_high"] - f["difference_low"]) for f in row.get("finalists", []) if f["tied"]), default=0.0)


def compare(x, y):
    """One problem in two sweeps; `winner` is "none" when one of them has no winner."""
    if "winner" not in x or "winner" not in y:
        return {"name": x["name"], "winner": "none", "reason": x.get("reason") or y.get("reason") or "the second sweep did not run it"}
    plans = [row["winner"]["plan"] for row in (x, y)]
    winner = "same" if plans[0] == plans[1] else "tied" if all(plan in tied(row) for plan in plans for row in (x, y)) else "other"
    first, second = (row["winner"]["median_ms"] for row in (x, y))
    return {"name": x["name"], "winner": winner, "first_ms": first, "second_ms": second, "apart": abs(second / first - 1), "tied": [len(tied(row)) for row in (x, y)],
            "width_percent": max(width(x), width(y)), "plans": plans}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args(words)
    a, b = by_problem(arguments.first), by_problem(arguments.second)
    rows = [compare(a[problem], b.get(problem, {})) for problem in a]
    print(f"{'problem':<72}{'first ms':>10}{'second ms':>10}{'apart %':>9}{'tied':>10}{'width %':>9}  winner")
    for row in rows:
        if row["winner"] == "none":
            print(f"{row['name']:<72}  no winner: {row['reason']}")
            continue
        print(f"{row['name']:<72}{row['first_ms']:>10.4f}{row['second_ms']:>10.4f}{100 * row['apart']:>9.2f}{'/'.join(map(str, row['tied'])):>10}{row['width_percent']:>9.2f}  {row['winner']}")
        if row["winner"] != "same":
            print("    " + "\n    ".join(row["plans"]))
    counts = {word: sum(row["winner"] == word for row in rows) for word in ("same", "tied", "other", "none")}
    seen = [row for row in rows if row["winner"] != "none"]
    summary = {**counts, "largest_apart": max((row["apart"] for row in seen), default=0.0), "widest_percent": max((row["width_percent"] for row in seen), default=0.0)}
    print(f"{counts['same']} of {len(rows)} winners the same, {counts['tied']} tied in both sweeps, {counts['other']} other; largest difference of medians "
          f"{100 * summary['largest_apart']:.2f} %; widest final interval {summary['widest_percent']:.2f} %")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"summary": summary, "problems": rows}, indent=1) + "\n")
    return 0 if counts["other"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

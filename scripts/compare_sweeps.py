#!/usr/bin/env python3
"""Two `phitune sweep --json` summaries of one suite: whether the winners are the same, how far their medians are apart, how wide the final intervals are."""
import json
import sys


def by_problem(path):
    with open(path) as file:
        return {row["problem"]: row for row in json.load(file)["problems"]}


def width(row):
    """The widest interval of a paired difference among the plans that could not be told apart, in per cent."""
    return max((100 * (f["difference_high"] - f["difference_low"]) for f in row.get("finalists", []) if f["tied"]), default=0.0)


def main(first, second):
    a, b = by_problem(first), by_problem(second)
    same, apart, widest = 0, 0.0, 0.0
    print(f"{'problem':<40}{'first ms':>10}{'second ms':>10}{'apart %':>9}{'tied':>10}{'width %':>9}  winner")
    for problem in a:
        x, y = a[problem], b.get(problem, {})
        if "winner" not in x or "winner" not in y:
            print(f"{x['name']:<40}  no winner: {x.get('reason') or y.get('reason')}")
            continue
        difference = 100 * abs(y["winner"]["median_ms"] / x["winner"]["median_ms"] - 1)
        equal = x["winner"]["plan"] == y["winner"]["plan"]
        same += equal
        apart, widest = max(apart, difference), max(widest, width(x), width(y))
        tied = "/".join(str(sum(f["tied"] for f in row["finalists"])) for row in (x, y))
        print(f"{x['name']:<40}{x['winner']['median_ms']:>10.4f}{y['winner']['median_ms']:>10.4f}{difference:>9.2f}{tied:>10}{max(width(x), width(y)):>9.2f}  {'same' if equal else 'other'}")
        if not equal:
            print(f"    {x['winner']['plan']}\n    {y['winner']['plan']}")
    print(f"{same} of {len(a)} winners the same; largest difference of medians {apart:.2f} %; widest final interval {widest:.2f} %")
    return 0 if same == len(a) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

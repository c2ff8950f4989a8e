"""`python -m bench`: run the table; `compare a.json b.json`; `plot a.json out.png`; `list`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import peers, report, runner
from bench.measure import Budget
from bench.workload import MORE, Record, load


def main(argv: list[str]) -> int:
    if argv[:1] == ["compare"]:
        before, after = (json.loads(Path(p).read_text())["rows"] for p in argv[1:3])
        print(report.compare(before, after))
        return 0
    if argv[:1] == ["plot"]:
        report.picture(json.loads(Path(argv[1]).read_text())["rows"], Path(argv[2]))
        return 0
    if argv[:1] == ["list"]:
        for record in load():
            print(f"{record.group:20} {record.name}")
        return 0
    return run(_arguments().parse_args(argv))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", help="comma-separated parts of workload or group names")
    parser.add_argument("--quick", action="store_true", help="short budgets; figures for orientation only")
    parser.add_argument("--peers", help=f"comma-separated, of: {', '.join(peers.ALL)}; 'none' for stager alone")
    parser.add_argument("--sizes", help="comma-separated element counts instead of each workload's own")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--dtypes", default="float64,float32")
    parser.add_argument("--workloads", help="comma-separated modules with further records in a tuple WORKLOADS")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds before a silent candidate is given up")
    parser.add_argument("--seconds", type=float, help="measuring time per row")
    parser.add_argument("--out", default="out/bench", help="where NAME.json, NAME.png and NAME.log go")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is missed or a row failed")
    return parser


def selected(only: str | None) -> list[Record]:
    records = load()
    if only is None:
        return records
    parts = [p.strip() for p in only.split(",")]
    return [r for r in records if any(p in r.name or p == r.group for p in parts)]


def run(options: argparse.Namespace) -> int:
    budget = Budget(seconds=0.3, least=3, most=20) if options.quick else Budget()
    if options.seconds:
        budget = replace(budget, seconds=options.seconds)
    if options.peers == "none":
        names = []
    else:
        names = peers.installed(tuple(options.peers.split(",")) if options.peers else peers.ALL)
    if options.workloads:
        os.environ[MORE] = options.workloads
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    plan = runner.Plan(
        records=selected(options.only),
        peers=names,
        threads=[int(t) for t in options.threads.split(",")],
        dtypes=options.dtypes.split(","),
        sizes=[int(float(s)) for s in options.sizes.split(",")] if options.sizes else None,
        budget=budget,
        log=out.with_suffix(".log"),
        patience=options.patience,
    )
    plan.log.write_text("")
    if not plan.records:
        print(f"no workload matches {options.only!r}; `python -m bench list` names them", file=sys.stderr)
        return 2
    total = sum(1 for threads in plan.threads for _ in runner.jobs(plan, threads))
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    print(report.header(names))
    for row in runner.run(plan):
        rows.append(row)
        _progress("")
        print(report.line(row, names), flush=True)
        _progress(f"{len(rows)}/{total} rows, {time.perf_counter() - started:.0f} s")
        _save(out, rows, options)
    _progress("")
    print(report.summary(rows, names))
    if names:
        try:
            report.picture(rows, out.with_suffix(".png"))
        except ImportError:
            print("no picture: matplotlib is not installed", file=sys.stderr)
    print(f"\n{out.with_suffix('.json')} written in {time.perf_counter() - started:.0f} s")
    failed = any(report.over(r) or r["failed"] for r in rows)
    return 1 if options.strict and failed else 0


def _save(out: Path, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    body = {"options": vars(options), "machine": runner.machine(), "versions": peers.versions(), "rows": rows}
    out.with_suffix(".json").write_text(json.dumps(body, indent=1))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Rows as text, as a comparison of two runs, and as a picture. Nothing here measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure import geomean
from bench.workload import GROUP_BARS, SHORT, SHORT_BARS

Row = dict[str, Any]
OWN = "stager"


def best_peer(row: Row) -> tuple[str, float] | None:
    times = {n: t for n, t in row["times"].items() if n not in (OWN, "forward")}
    if not times:
        return None
    name = min(times, key=lambda n: times[n])
    return name, times[name]


def ratio(row: Row, peer: str = "best") -> float | None:
    """stager's time over the peer's; None where either is missing."""
    own = row["times"].get(OWN)
    best = best_peer(row)
    other = (best[1] if best else None) if peer == "best" else row["times"].get(peer)
    return own / other if own and other else None


def bars(row: Row) -> dict[str, float]:
    """The row's own, and those of its group's short rows where it is one."""
    own = row["times"].get(OWN)
    short = SHORT_BARS.get(row["group"], {}) if row["bars"] and own is not None and own < SHORT else {}
    return {**short, **row["bars"]}


def over(row: Row) -> list[str]:
    """The bars that this row misses."""
    missed = []
    for name, bar in bars(row).items():
        if name == "seconds":
            figure = row["times"].get(OWN)
        elif name == "exponent":
            figure = row.get("exponents", {}).get(OWN)
        elif name in row.get("figures", {}):
            figure = row["figures"][name]
        else:
            figure = ratio(row, name)
        if figure is not None and figure > bar:
            missed.append(f"{name} {figure:.2f} > {bar:g}")
    return missed


def seconds(t: float | None) -> str:
    if t is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if t >= scale:
            return f"{t / scale:.3g} {unit}"
    return f"{t / 1e-9:.3g} ns"


def label(row: Row) -> str:
    size = f" {row['size']:.0e}".replace("e+0", "e").replace("e+", "e") if row["size"] else ""
    return f"{row['name']}{size} {'f64' if row['dtype'] == 'float64' else 'f32'} {row['threads']}t"


def header(peers: list[str]) -> str:
    return f"{'workload':46} {'stager':>9} {'best':>9} {'ratio':>6} {'A/A':>5}  " + " ".join(f"{p:>13}" for p in peers)


def line(row: Row, peers: list[str]) -> str:
    own = row["times"].get(OWN)
    best = best_peer(row)
    figure = ratio(row)
    text = f"{label(row):46} {seconds(own):>9} {seconds(best[1]) if best else '-':>9} "
    text += f"{figure:6.2f} " if figure else f"{'-':>6} "
    text += f"{row['spread']:5.2f}  " if row.get("spread") else f"{'-':>5}  "
    text += " ".join(f"{seconds(row['times'].get(p)):>13}" for p in peers)
    notes = [f"! {m}" for m in over(row)]
    notes += [f"{name} {figure:,}" for name, figure in row.get("figures", {}).items()]
    notes += [f"exponent {n} {e:.2f}" for n, e in row.get("exponents", {}).items()]
    notes += [f"{n} failed: {why}" for n, why in row["failed"].items()]
    return (text + "  " + "; ".join(notes)).rstrip()


def summary(rows: list[Row], peers: list[str]) -> str:
    """Geometric means per group against the best peer and each peer, and every row over its bar."""
    lines = ["", f"{'geomean of ratios':24} {'rows':>5} {'best':>7} " + " ".join(f"{p:>13}" for p in peers)]
    for group in dict.fromkeys(r["group"] for r in rows):
        members = [r for r in rows if r["group"] == group]
        cells = []
        for peer in ("best", *peers):
            ratios = [x for r in members if (x := ratio(r, peer)) is not None]
            bar = GROUP_BARS.get(group, {}).get(peer)
            mark = "!" if ratios and bar is not None and geomean(ratios) > bar else ""
            cells.append(f"{geomean(ratios):.2f}{mark}" if ratios else "-")
        counted = sum(ratio(r) is not None for r in members)
        lines.append(f"{group:24} {counted:5} {cells[0]:>7} " + " ".join(f"{c:>13}" for c in cells[1:]))
    missed = [(label(r), m) for r in rows for m in over(r)]
    failed = [(label(r), r["failed"].get(OWN) or r["failed"]["row"]) for r in rows if {OWN, "row"} & set(r["failed"])]
    barred = sum(bool(r["bars"]) for r in rows)
    lines += ["", f"{barred} rows with bars, {len(missed)} bars missed, {len(failed)} rows that stager could not run"]
    lines += [f"  over   {name}: {what}" for name, what in missed]
    lines += [f"  failed {name}: {why}" for name, why in failed]
    return "\n".join(lines)


def _key(row: Row) -> tuple[Any, ...]:
    return row["name"], row["size"], row["dtype"], row["threads"]


def compare(before: list[Row], after: list[Row]) -> str:
    """Row by row: stager's time and its ratio to the best peer, after over before.

    Machines drift between runs, so the second figure is the one to trust: the peers drift with the machine.
    """
    old = {_key(r): r for r in before}
    lines = [f"{'workload':46} {'before':>9} {'after':>9} {'time':>6} {'ratio before':>13} {'after':>6} {'change':>7}"]
    changes: dict[str, list[float]] = {}
    for row in after:
        was = old.get(_key(row))
        if was is None:
            lines.append(f"{label(row):46} new")
            continue
        a, b = was["times"].get(OWN), row["times"].get(OWN)
        ra, rb = ratio(was), ratio(row)
        if a is None or b is None:
            if (a is None) != (b is None):
                lines.append(f"{label(row):46} {'now runs' if a is None else 'no longer runs'}")
            continue
        text = f"{label(row):46} {seconds(a):>9} {seconds(b):>9} {b / a:6.2f}"
        if ra and rb:
            noise = max(was.get("spread") or 1.0, row.get("spread") or 1.0) * 1.05
            mark = " faster" if rb / ra < 1 / noise else " slower" if rb / ra > noise else ""
            text += f" {ra:13.2f} {rb:6.2f} {rb / ra:7.2f}{mark}"
            changes.setdefault(row["group"], []).append(rb / ra)
        lines.append(text)
    lines += [f"{_label(r):46} gone" for k, r in old.items() if k not in {_key(x) for x in after}]
    lines += ["", "geomean of the change in ratio to the best peer"]
    lines += [f"  {group:24} {geomean(values):.3f}  ({len(values)} rows)" for group, values in changes.items()]
    return "\n".join(lines)


_label = label


def picture(rows: list[Row], file: Path) -> None:
    """Ratios to every peer on a log axis, one line per row, one panel per group; left of 1 is faster than the peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [r for r in rows if ratio(r) is not None]
    if not shown:
        return
    groups = list(dict.fromkeys(r["group"] for r in shown))
    counts = [sum(r["group"] == g for r in shown) for g in groups]
    peers = list(dict.fromkeys(p for r in shown for p in r["times"] if p not in (OWN, "forward")))
    colours = dict(zip(peers, plt.get_cmap("tab10").colors, strict=False))
    height = sum(0.17 * c + 0.75 for c in counts) + 1.0
    layout = {"height_ratios": [c + 2.5 for c in counts]}
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(11, height), squeeze=False, sharex=True, gridspec_kw=layout
    )
    for axis, group in zip(axes[:, 0], groups, strict=True):
        members = [r for r in shown if r["group"] == group]
        for y, row in enumerate(members):
            axis.axhline(y, color="0.93", linewidth=0.8, zorder=0)
            for peer in peers:
                x = ratio(row, peer)
                if x is not None:
                    axis.plot(x, y, "o", markersize=3.2, color=colours[peer], alpha=0.8)
            best = ratio(row)
            assert best is not None
            axis.plot(best, y, "|", markersize=9, markeredgewidth=1.8, color="crimson" if over(row) else "black")
        axis.set_yticks(range(len(members)), [label(r) for r in members], fontsize=6)
        axis.set_ylim(len(members) - 0.3, -0.7)
        axis.set_xscale("log")
        axis.axvline(1.0, color="0.4", linewidth=0.8)
        values = [x for r in members if (x := ratio(r)) is not None]
        axis.set_title(f"{group}: geomean to the best peer {geomean(values):.2f}", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("stager's time / peer's time (bar: best peer; red: over its bar)")
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colours[p], label=p, markersize=5) for p in peers]
    figure.legend(handles=handles, loc="upper right", fontsize=8, ncol=len(peers), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / height))
    figure.savefig(file, dpi=110)
    plt.close(figure)

"""The data sheet: what a run keeps of its federation, and what a person looks at before training."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from atoll.data.federation import SPLITS, Federation
from atoll.metrics.heterogeneity import Measure, heterogeneity
from atoll.metrics.heterogeneity.labels import count_labels
from atoll.metrics.heterogeneity.summary import BY_CHANCE

SHOWN = 20  # clients of the label table
WIDE = 15  # labels that get a column with numbers; more are shown as one strip of shades
SHADES = " ░▒▓█"


def sheet(fed: Federation) -> dict[str, Any]:
    """What is kept as data.json: plain numbers, texts and lists. `majority_accuracy` is None for regression; `heterogeneity`: see metrics/heterogeneity."""
    return {
        "name": fed.name,
        "history": list(fed.history),
        "clients": len(fed.names),
        "seen": fed.seen,
        "unseen": len(fed.names) - fed.seen,
        "labels": list(fed.labels),
        "sizes": {split: fed.count[split].tolist() for split in SPLITS},
        "names": list(fed.names),
        "label_table": label_table(fed, "train").tolist() if fed.labels else [],
        "majority_accuracy": majority_accuracy(fed),
        "split_hash": split_hash(fed),
        "groups": None if fed.groups is None else fed.groups.tolist(),
        "drift": None if (d := fed.drift) is None else {"every": d.every, "order": list(d.order), "again": d.again, "about": list(d.about)},
        "attackers": None if fed.attackers is None else fed.attackers.tolist(),
        "heterogeneity": [one.as_dict() for one in heterogeneity(fed)],
    }


def label_table(fed: Federation, split: str) -> np.ndarray:
    """int64 [clients, labels]: rows (for sequences: positions) with each label."""
    first, n = int(fed.start[split][0]), int(fed.count[split].sum())
    return count_labels(fed.y[first : first + n], np.repeat(np.arange(len(fed.names)), fed.count[split]), len(fed.names), len(fed.labels))


def majority_accuracy(fed: Federation) -> float | None:
    """Share of all test rows that have the most frequent label of their client's train rows (the first of equals). None for regression."""
    if not fed.labels:
        return None
    test = label_table(fed, "test")
    majority = label_table(fed, "train").argmax(axis=1)
    return float(test[np.arange(len(majority)), majority].sum() / test.sum())


def split_hash(fed: Federation) -> str:
    """sha256 (hex) over x, y, start, count and names, of all phases: equal if and only if every client has the same rows in the same order."""
    digest = hashlib.sha256()
    for phase in fed.phases:
        tables = [table[split].astype(np.int64) for table in (phase.start, phase.count) for split in SPLITS]
        for array in (phase.x, phase.y, *tables):
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{little.dtype.str}{little.shape}".encode())
            digest.update(little.data)
    digest.update(json.dumps(fed.names).encode())
    return digest.hexdigest()


def print_sheet(fed: Federation, console: Console) -> None:
    """Prints the sheet: name, clients and their sizes, labels per client, majority accuracy, hash of the split, history."""
    content = sheet(fed)
    console.print(f"[bold]{escape(fed.name)}[/bold]")
    _print_facts(fed, content, console)
    if fed.labels:
        some = f" ({SHOWN} of {len(fed.names):,} clients)" if len(fed.names) > SHOWN else ""
        console.print(f"[bold]train rows per label[/bold]{some}")
        console.print(_heat_table(fed, np.array(content["label_table"])))
    console.print("[bold]how clients differ[/bold] (train rows)")
    console.print(differences([Measure(**one) for one in content["heterogeneity"]]))
    console.print(BY_CHANCE, highlight=False)
    for line in fed.history:
        console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)


def _print_facts(fed: Federation, content: dict[str, Any], console: Console) -> None:
    groups = f", {len(set(content['groups']))} groups" if content["groups"] is not None else ""
    attackers = f", {sum(content['attackers'])} attackers" if content["attackers"] is not None else ""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("clients", f"{content['seen']} seen, {content['unseen']} unseen{groups}{attackers}")
    facts.add_row("row", f"{fed.x.dtype.name} {'x'.join(map(str, fed.x.shape[1:]))}, " + (f"{len(fed.labels)} labels" if fed.labels else "a number to predict"))
    for split in SPLITS:
        n = fed.count[split]
        facts.add_row(f"{split} rows", f"{n.sum():,} in all; per client {n.min():,} (least), {np.median(n):,.6g} (median), {n.max():,} (most)")
    if fed.drift is not None:
        again = ", and again from the first" if fed.drift.again else ""
        facts.add_row("changes", f"every {fed.drift.every} rounds: " + "; then ".join(fed.drift.about[phase] for phase in fed.drift.order) + again)
    if fed.public is not None:
        facts.add_row("public rows", f"{len(fed.public[1]):,}")
    if content["majority_accuracy"] is not None:
        facts.add_row("majority", f"{100 * content['majority_accuracy']:.1f} % of test rows have their client's most frequent label")
    facts.add_row("split", content["split_hash"])
    console.print(facts)


def differences(found: list[Measure]) -> Table:
    """Measures of heterogeneity in words and numbers."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for column in ("kind", "how much", "number", "by chance", "what"):
        table.add_column(column, justify="right" if column in ("number", "by chance") else "left", no_wrap=True)
    for one, before in zip(found, (None, *found), strict=False):
        number, chance = ("\N{EN DASH}" if value is None else f"{value:.3f}" for value in (one.value, one.chance))
        word = f"[bold]{one.word}[/bold]" if one.word == "strong" else one.word
        table.add_row("" if before and before.kind == one.kind else one.kind, word, number, chance, one.name)
    return table


def _heat_table(fed: Federation, counts: np.ndarray) -> Table:
    """Train rows per client and label; the shade is the label's share of the client's rows."""
    shown = np.unique(np.linspace(0, len(counts) - 1, min(SHOWN, len(counts))).round().astype(int))
    few = len(fed.labels) <= WIDE
    table = Table(box=None, padding=(0, 1 if few else 0), pad_edge=False)
    table.add_column("client", no_wrap=True)
    for label in fed.labels if few else (f" {len(fed.labels)} labels",):
        table.add_column(escape(label), justify="right" if few else "left", overflow="ellipsis" if few else "fold", no_wrap=few)
    for i in shown:
        shares = counts[i] / max(1, counts[i].sum())
        cells = [_cell(n, share) for n, share in zip(counts[i], shares, strict=True)] if few else [Text(" " + "".join(map(_shade, shares)))]
        table.add_row(escape(fed.names[i]) + ("" if i < fed.seen else " (unseen)"), *cells)
    return table


def _cell(n: int, share: float) -> Text:
    """A count on a background from black (none) to blue (all)."""
    return Text(f"{n:,}" if n else "·", style=f"white on rgb({int(20 * share)},{int(60 * share)},{int(60 + 150 * share) if n else 0})")


def _shade(share: float) -> str:
    return SHADES[min(len(SHADES) - 1, int(np.ceil(share * (len(SHADES) - 1))))]

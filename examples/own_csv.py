"""Rows of your own in a CSV file with a column that says whose they are.

Here the file is made first: patients of five hospitals, whose measurements are on different scales. Run: python examples/own_csv.py
"""

import csv
import tempfile
from pathlib import Path

import numpy as np

import atoll


def write_patients(path: Path) -> None:
    """600 made-up patients: age, pressure, marker -> sick or well; each hospital's marker has an offset of its own."""
    random = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["hospital", "age", "pressure", "marker", "outcome"])
        for hospital, offset in zip("ABCDE", (0.0, 1.5, -1.5, 3.0, -3.0), strict=True):
            for _ in range(120):
                age, pressure, marker = random.normal(60, 10), random.normal(130, 15), random.normal()
                sick = marker + 0.02 * (age - 60) + 0.3 * random.normal() > 0
                out.writerow([hospital, f"{age:.1f}", f"{pressure:.1f}", f"{marker + offset:.3f}", "sick" if sick else "well"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patients.csv"
        write_patients(path)
        data = atoll.load("csv", path=str(path), client="hospital", label="outcome")
        result = atoll.run(data, ["fedper", "apfl"], model="mlp:16", rounds=15)
        result.show()
        # the same from the command line:  atoll run --data patients.csv --client hospital --label outcome --model mlp:16 --method fedper --method apfl

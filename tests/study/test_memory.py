"""The largest memory of the process, as a run's table has it."""

import sys

import numpy as np
import pytest

from atoll.study.training import forget_peak, peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_the_peak_begins_anew_where_it_is_forgotten():
    rows = np.ones(40_000_000)  # 320 MB
    before = peak_memory(0)
    assert before > rows.nbytes
    del rows
    forget_peak()
    assert peak_memory(0) < before - 200_000_000

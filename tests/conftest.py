"""Settings for all tests, made before JAX is imported."""

import os
import tempfile
from importlib.metadata import version

import pytest

# Many tests compile the same small programs: keep every one of them, for each test process apart, as JAX writes its files without a lock.
# A worker inherits the setting of the process that started it, so that it must not take a setting for the user's.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
_ours = os.path.join(tempfile.gettempdir(), f"atoll-test-cache-{os.getuid()}-")
if os.environ.get("JAX_COMPILATION_CACHE_DIR", _ours).startswith(_ours):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _ours + _worker
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Nearly all of the time goes into compiling programs that then run for milliseconds, so that they are compiled plainly. Real runs, in tests/behaviour, are
# optimised. A version of XLA that does not know a flag stops the process: only those that are known to have it are given it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The tests of one file run in one process, where what they compile is found again, unless they say with whom they belong."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))

"""Settings for all tests, made before JAX is imported."""

import os
import tempfile

# Many tests compile the same small programs: keep every one of them, for each test process apart, as JAX writes its files without a lock.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"atoll-test-cache-{os.getuid()}-{_worker}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

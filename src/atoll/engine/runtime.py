"""Settings of the compiler and its threads, made before JAX starts its CPU client.

Lanes of clients run on our own worker threads, but XLA computes its larger operations on a pool of its own and goes on there: with one thread in that
pool (PJRT_NPROC=1) all lanes queue for it, and a second core stays idle. The pool therefore has a thread for each core, and at least two, because
convolutions are cut up differently where it has only one: so results do not depend on the number of cores.
Measured on 2 cores, a round of 10 clients x 30 steps: 784-200-10 net 30 ms so, 54 ms with one thread; the CNN of McMahan et al. 2.8 and 5.4 s.
"""

from __future__ import annotations

import os

import jax

from atoll.core.cache import cache_folder
from atoll.core.cores import cores


def prepare() -> None:
    """Sets what can only be set before JAX's CPU client exists. Settings that the user made himself in the environment are left alone."""
    os.environ.setdefault("PJRT_NPROC", str(max(2, cores())))
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:  # lanes fill the cores: threads that share a small matrix product mostly wait for each other
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    settings = {
        "jax_cpu_enable_async_dispatch": False,
        "jax_compilation_cache_dir": str(cache_folder() / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0.3,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ:  # JAX read the environment when it was imported
            jax.config.update(name, value)

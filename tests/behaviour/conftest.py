"""Real runs are optimised, as users' are."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _optimised():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)

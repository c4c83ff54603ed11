"""Who runs the programs. Importing this package sets JAX up for worker threads, so it must come before JAX is used."""

from atoll.engine.runtime import prepare

prepare()

"""What all wrappers have in common: a wrapper makes the class of a new method out of a method's class, and says anew what it changes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from atoll.core.method import method


class Around(NamedTuple):
    """What a wrapped method's class was made of."""

    kind: type[Any]  # of the method inside
    wrapper: str  # its name on the command line


class Wrapping:
    """The body of a wrapper: the method inside, and whatever is not said here is as in the method inside."""

    around: ClassVar[Around]

    @functools.cached_property
    def inner(self) -> Any:
        """The method inside."""
        kind = self.around.kind
        return kind(**{f.name: getattr(self, f.name) for f in dataclasses.fields(kind)})

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def check(self) -> None:
        _ = self.inner  # what it checks is checked


def title_of(kind: type[Any]) -> str:
    """The name that a method's class goes by in tables."""
    return getattr(kind, "label", kind.__name__)


def passed_on(name: str) -> Callable[..., Any]:
    """A function of the method inside, as a function of the wrapper's class."""

    def call(self: Any, *arguments: Any) -> Any:
        return getattr(self.inner, name)(*arguments)

    call.__name__ = name
    return call


def completed(cls: type[Any], more: dict[str, tuple[str, Any]], name: str, doc: str) -> type[Any]:
    """Makes a wrapper's body a method with the hyperparameters of the method inside and `more`: name -> (type, hyper(...))."""
    kind = cls.around.kind
    fields = {f.name: (f.type, dataclasses.field(default=f.default, metadata=f.metadata)) for f in dataclasses.fields(kind)} | more
    cls.__annotations__ = {name: of_type for name, (of_type, _) in fields.items()}
    for field, (_, value) in fields.items():
        setattr(cls, field, value)
    cls.__name__ = cls.__qualname__ = f"{name}{kind.__name__}"
    cls.__doc__ = doc
    return method(cls)

"""Reading skews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from atoll.data.skew import TABLE, Classes, Concept, Dirichlet, Iid, Natural, Quantity, Rotate, Style, Swap, Window, parse, parse_all
from atoll.data.skew.attack import Flip, Random
from atoll.data.skew.clientwise import Affine, Camera, Noise
from atoll.data.skew.texts import options
from tests.data.support import refuses


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("iid", Iid()),
        ("natural", Natural()),
        ("classes:2", Classes(2)),
        ("dirichlet:0.1", Dirichlet(0.1)),
        (" dirichlet : alpha = 0.5 , least=3 ", Dirichlet(0.5, 3)),
        ("dirichlet:1,least=20", Dirichlet(1.0, 20)),
        ("quantity:power=1.5", Quantity(power=1.5)),
        ("quantity:lognormal=1,least=4", Quantity(lognormal=1.0, least=4)),
        ("rotate:4", Rotate(4)),
        ("swap:3", Swap(3)),
        ("swap:4,share=0.5", Swap(4, 0.5)),
        ("classes:2,alpha=0.5", Classes(2, 0.5)),
        ("style:3", Style(3)),
        ("noise:0.1", Noise(0.1)),
        ("affine:0.5", Affine(0.5)),
        ("camera:1", Camera(1.0)),
        ("flip:0.2", Flip(0.2)),
        ("flip:0.2,kind=permuted,rows=0.5", Flip(0.2, "permuted", 0.5)),
        ("random:share=1,rows=0.3", Random(1.0, 0.3)),
    ],
)
def test_texts(text, made):
    assert parse(text) == made
    assert parse(str(made)).__class__ is type(made)
    assert str(parse(str(made))) == str(made)


@pytest.mark.parametrize("name", TABLE)
def test_examples_of_the_table_can_be_read_and_say_themselves(name):
    made = parse(TABLE[name].example)
    assert isinstance(made, TABLE[name].kind)
    assert str(made) == TABLE[name].example


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dirichlett:0.1", ["Unknown skew 'dirichlett'", "Did you mean dirichlet?"]),
        ("", ["Unknown skew ''"]),
        ("dirichlet", ["needs a value", "dirichlet:0.1"]),
        ("dirichlet:", ["needs a value"]),
        ("dirichlet:x", ["'x' is not a number"]),
        ("dirichlet:0", ["above 0"]),
        ("dirichlet:-1", ["above 0"]),
        ("dirichlet:nan", ["above 0"]),
        ("dirichlet:inf", ["above 0"]),
        ("dirichlet:0.1,5", ["'5' can't be read"]),
        ("dirichlet:0.1,most=5", ["'most'", "alpha, least"]),
        ("dirichlet:0.1,least=1", ["least=1", "2 or more"]),
        ("dirichlet:0.1,least=2.5", ["whole number"]),
        ("dirichlet:0.1,alpha=0.2", ["alpha is given twice"]),
        ("dirichlet:least=3", ["needs a value"]),
        ("classes:0", ["at least one class"]),
        ("classes:1.5", ["not a whole number"]),
        ("iid:3", ["iid"]),
        ("natural:speaker=1", ["no options"]),
        ("quantity", ["power=1.5 or quantity:lognormal=1"]),
        ("quantity:2", ["can't be read", "quantity:power=1.5"]),
        ("quantity:power=1,lognormal=1", ["either"]),
        ("quantity:power=-1", ["from 0"]),
        ("quantity:power=nan", ["from 0"]),
        ("rotate:1", ["at least 2 groups"]),
        ("swap:0", ["at least 2 groups"]),
        ("swap", ["needs a value"]),
        ("swap:2,share=0", ["share of labels", "above 0"]),
        ("classes:2,alpha=0", ["alpha=0", "above 0"]),
        ("style:7", ["2 to 6 groups", "plain, negative"]),
        ("style:1", ["2 to 6 groups"]),
        ("noise:0", ["noise:0", "above 0"]),
        ("noise:nan", ["above 0"]),
        ("affine:-1", ["above 0"]),
        ("camera:1.5", ["at most 1"]),
        ("flip:0", ["share of clients is 0", "flip:0.2"]),
        ("flip:0.2,rows=2", ["share of rows is 2"]),
        ("flip:0.2,kind=permute", ["Unknown kind of skew flip 'permute'", "Did you mean permuted?"]),
        ("random:1.1", ["share of clients is 1.1", "random:0.2"]),
        ("random", ["needs a value", "random:0.2"]),
    ],
)
def test_bad_texts_are_refused(text, words):
    with refuses(*words):
        parse(text)


@dataclass(frozen=True)
class Named:
    """A skew with every type of option."""

    share: float
    kind: Literal["flipped", "random"] = "flipped"
    column: str = ""
    every: int | None = None


@pytest.mark.parametrize(
    ("rest", "made"),
    [
        ("0.2", {"share": 0.2}),
        ("0.2, kind = random", {"share": 0.2, "kind": "random"}),
        ("column=a b,share=1,every=3", {"column": "a b", "share": 1.0, "every": 3}),
    ],
)
def test_options_are_of_the_types_of_their_fields(rest, made):
    found = options(Named, "named", rest, f"named:{rest}", "named:0.2")
    assert found == made
    assert [type(value) for value in found.values()] == [type(value) for value in made.values()]


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("kind=random", ["'named:kind=random'", "needs a value", "named:0.2"]),
        ("0.2,kind=randon", ["Unknown kind of skew named 'randon'", "Did you mean random?", "flipped"]),
        ("0.2,random", ["'random' can't be read"]),
        ("0.2,every=1.5", ["'1.5' is not a whole number"]),
        ("0.2,colum=a", ["Unknown option of skew named 'colum'", "Did you mean column?"]),
        ("0.2,column=a,column=b", ["column is given twice"]),
    ],
)
def test_bad_options_are_refused(rest, words):
    with refuses(*words):
        options(Named, "named", rest, f"named:{rest}", "named:0.2")


def test_what_combines():
    assert parse_all(()) == (None, (), (), None, None)
    assert parse_all("iid") == (Iid(), (), (), None, None)
    assert parse_all(["flip:0.2", "swap:2", Dirichlet(0.1), "noise:0.1"]) == (Dirichlet(0.1), (Swap(2), Noise(0.1)), (Flip(0.2),), None, None)
    assert parse_all(["flip:0.2", "random:0.1"]).attacks == (Flip(0.2), Random(0.1))
    changes = parse_all(["concept:3,kind=recurring", "window:2,every=5,by=client"])
    assert changes == (None, (), (), Window(2, 5, "client"), Concept(3, kind="recurring"))
    with refuses("iid", "dirichlet:0.1", "only one can"):
        parse_all(["iid", "dirichlet:0.1"])
    with refuses("natural", "classes:2"):
        parse_all(["natural", "classes:2"])
    with refuses("swap:2 and swap:3", "one of a kind"):
        parse_all(["swap:2", "swap:3"])
    with refuses("flip:0.2 and flip:0.3", "one of a kind"):
        parse_all(["flip:0.2", "flip:0.3"])

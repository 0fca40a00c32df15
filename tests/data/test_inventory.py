"""What `kerasbn data` says a run would do is what a run does."""

import pytest

from kerasbn.data.datasets import Place, State
from kerasbn.data.inventory import Inventory
from kerasbn.errors import CheckFailedError


def place(dataset: str, state: State, name: str = "cache") -> Place:
    problem = f"{dataset} is {state}" if state in ("incomplete", "damaged") else ""
    return Place(name, dataset, f"/{dataset}", state, problem=problem)


MIRRORS = "first asks two public mirrors for MNIST, as `kerasbn data fetch` does, and without an"


@pytest.mark.parametrize(
    ("dataset", "places", "words"),
    [
        ("auto", [place("mnist", "whole"), place("mnist-sample", "whole")], "takes mnist from /mn"),
        ("auto", [place("mnist", "damaged"), place("mnist-sample", "whole")], "stops at /mnist."),
        ("auto", [place("mnist", "absent", "--data-dir")], "stops at /mnist."),
        (
            "auto",
            [place("mnist", "incomplete"), place("mnist-sample", "whole")],
            f"{MIRRORS} answer takes the sample of 5,000 digits.",
        ),
        ("mnist", [place("mnist", "absent")], f"{MIRRORS} answer stops."),
        ("mnist-sample", [place("mnist-sample", "whole")], "takes mnist-sample from /mnist-sample"),
        ("mnist-sample", [place("mnist-sample", "absent")], "stops: its package is not installed."),
    ],
)
def test_the_outlook(dataset: str, places: list[Place], words: str) -> None:
    outlook = Inventory(dataset, places).outlook()
    assert outlook.startswith(f"A run with --dataset {dataset} {words}")


def test_only_what_is_found_can_fail() -> None:
    Inventory("auto", [place("mnist", "absent"), place("mnist-sample", "whole")]).check()
    found = Inventory("auto", [place("mnist", "incomplete"), place("mnist-sample", "damaged")])
    with pytest.raises(CheckFailedError, match=r"^mnist is incomplete; mnist-sample is damaged$"):
        found.check()

"""What there is of the digits, and what a training would take: what `kerasbn data` tells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasbn.data.datasets import Place, survey, taken
from kerasbn.errors import CheckFailedError


@dataclass(frozen=True)
class Inventory:
    """Every place where digits may be, as it was found.

    Attributes:
        dataset: which digits were asked for: `auto`, `mnist` or `mnist-sample`.
        places: the places, in the order `files.load` looks.
    """

    dataset: str
    places: list[Place]

    @property
    def choice(self) -> Place | None:
        """The place that `files.load` reads, whole or not; None if it asks the mirrors first."""
        return taken(self.places)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON holds it: of the digits their number and their digest."""
        return {
            "dataset": self.dataset,
            "taken": self.choice.name if self.choice else None,
            "places": [_as_dict(place) for place in self.places],
        }

    def outlook(self) -> str:
        """What a run with this data set would do, as a sentence."""
        choice, run = self.choice, f"A run with --dataset {self.dataset}"
        if choice and choice.state != "whole":
            return f"{run} stops at {choice.where}."
        if choice and (choice.dataset == "mnist" or self.dataset == "mnist-sample"):
            return f"{run} takes {choice.dataset} from {choice.where}."
        if self.dataset == "mnist-sample":
            return f"{run} stops: its package is not installed."
        otherwise = "takes the sample of 5,000 digits" if choice else "stops"
        return (
            f"{run} first asks two public mirrors for MNIST, as `kerasbn data fetch` does, and "
            f"without an answer {otherwise}."
        )

    def check(self) -> None:
        """Raise `CheckFailedError` if something found does not hold what it must."""
        problems = [
            place.problem for place in self.places if place.state in ("incomplete", "damaged")
        ]
        if problems:
            raise CheckFailedError("; ".join(problems))


def take_inventory(dataset: str = "auto", data_dir: str | Path | None = None) -> Inventory:
    """Look at every place where the digits of `dataset` may be, and at their check sums.

    Raises:
        InputError: if there is no such data set, or `data_dir` is given and is no folder.
    """
    return Inventory(dataset, survey(dataset, data_dir))


def _as_dict(place: Place) -> dict[str, Any]:
    digits = place.digits
    return {
        "name": place.name,
        "dataset": place.dataset,
        "where": place.where,
        "state": place.state,
        "train": len(digits.train) if digits else None,
        "test": len(digits.test) if digits else None,
        "digest": digits.digest if digits else None,
        "problem": place.problem or None,
    }

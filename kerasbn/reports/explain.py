"""What batch normalization is: in the figures of the network at hand, and of networks at large."""

from kerasbn.reports.document import Block, Formula, Section, Words, plural
from kerasbn.reports.sources import Trained

HEADING = "What batch normalization does"


def normalization_of(trained: Trained) -> Section:
    """What stands between the layers of this network, while it trains and when it answers."""
    network, training = trained.model, trained.training
    units = sum(network.hidden)
    layers = len(network.hidden)
    places = {
        "before": f"between its Dense layer and its {network.activation}",
        "after": f"after its {network.activation}",
    }
    where = f"In each of the {layers} hidden layers" if layers > 1 else "In the hidden layer"
    if network.activation == "linear":
        places = dict.fromkeys(places, "behind its Dense layer")
    momentum = network.bn_momentum
    blocks: list[Block] = [
        Words(
            f"{where} a normalization stands {places[network.bn_position]}. While the network "
            f"trains, it takes the values of a unit for the {training.batch_size} digits of a "
            "batch, subtracts their mean and divides by their standard deviation; then it scales "
            "by γ and shifts by β, which are learned as weights are: "  # noqa: RUF001 - the paper's letters
            f"{2 * units:,} of them for {plural(units, 'unit')}. Had all kernels before "
            "it ten times their size, a normalization would give out the same values, but for ε: "
            "neither a bad start nor a step that is too large lets the size of the signal run away "
            "or die out from layer to layer."
        ),
        Formula(
            "y = γ · (x − mean) / √(variance + ε) + β",  # noqa: RUF001 - the paper's letters
            f"mean and variance over a batch in training, moving averages in use; "
            f"ε = {network.bn_epsilon:g}",
        ),
        Words(
            "When it answers, there is no batch to depend on: mean and variance are moving "
            f"averages, in which each batch of the training had a weight of {1 - momentum:g} and "
            f"all before it {momentum:g}. With them a normalization is a fixed y = s·x + t for "
            "each unit, and that is why it can be folded into the layer beside it."
        ),
    ]
    return Section("what", HEADING, blocks)


def normalization_at_large(*, paired: bool) -> Section:
    """The same where many networks are told of, whose figures differ; `paired`: each twice."""
    blocks: list[Block] = [
        Words(
            "A network with BN has a normalization in every hidden layer. While the network trains "
            "it takes the values of a unit for the digits of a batch, subtracts their mean and "
            "divides by their standard deviation; then it scales by γ and shifts by β, which are "  # noqa: RUF001 - the paper's letters
            "learned. When the network answers, mean and variance are moving averages over the "
            "training, and a normalization is a fixed y = s·x + t for each unit."
        ),
        Formula(
            "y = γ · (x − mean) / √(variance + ε) + β",  # noqa: RUF001 - the paper's letters
            "mean and variance over a batch in training, moving averages in use",
        ),
    ]
    if paired:
        blocks.append(
            Words(
                "Its partner without BN is the same but for these layers: it starts from the same "
                "kernels and sees the same batches in the same order."
            )
        )
    return Section("what", HEADING, blocks)

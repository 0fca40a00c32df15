"""What happens inside the models: how BN works, and what the probes recorded."""

from collections.abc import Sequence

from kerasbn.common.wording import plural
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.probes.readings import has_probes
from kerasbn.probes.results import pictures
from kerasbn.reports.charts import figure_blocks
from kerasbn.reports.document import Block, Code, Formula, Paragraph, Section
from kerasbn.reports.reproduce import compare_command, labels_of, reproduce_command
from kerasbn.runs import Run
from kerasbn.training.settings import option_text

FORMULA = "y = γ · (x − mean) / √(variance + ε) + β"  # noqa: RUF001 - the letters of the paper
SYMBOLS = "mean and variance: of the batch in training, moving averages at inference"
INSIDE = "Inside the model"


def batch_normalization(member: TrainedModel | None = None, *, paired: bool = False) -> Section:
    """Explain BN.

    Args:
        member: A model with BN, whose settings become part of the explanation.
        paired: Whether each model was trained with and without BN.
    """
    training = (
        "In training, a BN layer normalizes each unit over the batch: it subtracts the mean and "
        "divides by the standard deviation. Then it scales by γ and shifts by β, which are "  # noqa: RUF001
        "trained like weights. The output does not depend on the scale of the weights before it, "
        "except through ε. Neither a poor initialization nor a large step can make activations "
        "explode or vanish from layer to layer."
    )
    inference = (
        "At inference, mean and variance are moving averages, so a prediction does not depend on "
        "the batch. The BN layer is then y = s·x + t with a fixed s and t for each unit. That is "
        "why it can be folded into the neighboring layer."
    )
    blocks: list[Block] = [Paragraph(training), Formula(FORMULA, SYMBOLS), Paragraph(inference)]
    if member is not None:
        model, units = member.model, sum(member.model.hidden)
        position = "after its Dense layer"
        if model.activation != "linear":
            position = f"{model.bn_position} its {model.activation} activation"
        settings = {
            "batch size": member.training.batch_size,
            "momentum of the moving averages": model.bn_momentum,
            "ε": model.bn_epsilon,
        }
        values = [f"{name} {option_text(value)}" for name, value in settings.items()]
        blocks.append(
            Paragraph(
                f"Here each hidden layer has a BN layer {position}, with {2 * units:,} trained "
                f"parameters for {plural(units, 'unit')} ({', '.join(values)})."
            )
        )
    if paired:
        words = "starts from the same weights and sees the same batches in the same order"
        blocks.append(
            Paragraph(f"The model without BN is the same except for these layers: it {words}.")
        )
    return Section("bn", "How batch normalization works", blocks)


def inside_comparison(comparison: Comparison, prefix: str) -> Section:
    """Return what probes recorded in the first probed pair, or the command that records it."""
    for pair in zip(comparison.with_bn, comparison.without_bn, strict=True):
        probed = [each.run for each in pair if each.run is not None and has_probes(each.run)]
        if probed:
            several = len(comparison.seeds) > 1
            note = [Paragraph(f"The pair with seed {pair[0].training.seed}.", "note")] * several
            return Section("inside", INSIDE, [*note, *_probe_blocks(probed, prefix)])
    return _not_probed("these models", compare_command(comparison, probe=True))


def inside_runs(members: Sequence[TrainedModel], prefix: str) -> Section:
    """Return what probes recorded in each run, or the command that records it."""
    blocks: list[Block] = []
    labels = labels_of(members)
    for i, (label, member) in enumerate(zip(labels, members, strict=True)):
        if member.run is not None and has_probes(member.run):
            if len(members) > 1:
                blocks.append(Paragraph(f"{label}:"))
            blocks += _probe_blocks([member.run], f"{prefix}{i}")
    if not blocks:
        which = "this model" if len(members) == 1 else labels[0]
        return _not_probed(which, reproduce_command(members[0], probe=True))
    return Section("inside", INSIDE, blocks)


def _probe_blocks(probed: Sequence[Run], prefix: str) -> list[Block]:
    return [
        block
        for name, picture in pictures(probed).items()
        for block in figure_blocks(picture.figure, picture.caption, f"{prefix}-{name}")
    ]


def _not_probed(which: str, command: str) -> Section:
    words = Paragraph(
        f"No probes were recorded. To train {which} again and record gradients, activations, BN "
        "statistics and the loss landscape:"
    )
    return Section("inside", INSIDE, [words, Code([command])])

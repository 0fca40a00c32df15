"""What happens inside the models: how BN works, and what the probes recorded."""

from collections.abc import Sequence

from kerasbn.common.wording import plural
from kerasbn.experiments.comparison import Comparison
from kerasbn.experiments.trained_model import TrainedModel
from kerasbn.probes.results import pictures
from kerasbn.reports.charts import figure_charts
from kerasbn.reports.document import Block, Charts, Code, Formula, Paragraph, Section
from kerasbn.reports.reproduce import compare_command, labeled, probed_runs, train_command
from kerasbn.runs import Run
from kerasbn.training.settings import option_text

FORMULA = "y = γ · (x − mean) / √(variance + ε) + β"  # noqa: RUF001 - the letters of the paper
SYMBOLS = "mean and variance: of the batch in training, moving averages at inference"
TRAINING = (
    "In training, a BN layer normalizes each unit over the batch: it subtracts the mean and "
    "divides by the standard deviation. Then it scales by γ and shifts by β, which are "  # noqa: RUF001
    "trained like weights. The output does not depend on the scale of the weights before it, "
    "except through ε. Neither a poor initialization nor a large step can make activations "
    "explode or vanish from layer to layer."
)
INFERENCE = (
    "At inference, mean and variance are moving averages, so a prediction does not depend on "
    "the batch. The BN layer is then y = s·x + t with a fixed s and t for each unit. That is why "
    "it can be folded into the neighboring layer."
)
PAIRED = (
    "The model without BN is the same except for these layers: it starts from the same weights and "
    "sees the same batches in the same order."
)
INSIDE = "Inside the model"


def batch_normalization(member: TrainedModel | None = None, *, paired: bool = False) -> Section:
    """Explain BN, with the settings of `member`; `paired` if there are models without BN too."""
    return Section(
        "bn",
        "How batch normalization works",
        Paragraph(TRAINING),
        Formula(FORMULA, SYMBOLS),
        Paragraph(INFERENCE),
        None if member is None else Paragraph(_bn_settings(member)),
        Paragraph(PAIRED) if paired else None,
    )


def inside_comparison(comparison: Comparison, prefix: str) -> Section:
    """Return what probes recorded in the first probed pair, or the command that records it."""
    for pair in zip(comparison.with_bn, comparison.without_bn, strict=True):
        if probed := probed_runs(pair):
            several = len(comparison.seeds) > 1
            note = Paragraph(f"The pair with seed {pair[0].training.seed}.", "note")
            return Section("inside", INSIDE, note if several else None, *_charts(probed, prefix))
    return _not_probed("these models", compare_command(comparison, probe=True))


def inside_runs(members: Sequence[TrainedModel], prefix: str) -> Section:
    """Return what probes recorded in each run, or the command that records it."""
    blocks: list[Block] = []
    named = labeled(members)
    for i, (label, member) in enumerate(named):
        if probed := probed_runs([member]):
            blocks += [Paragraph(f"{label}:")] * (len(members) > 1)
            blocks += _charts(probed, f"{prefix}{i}")
    if not blocks:
        which = "this model" if len(members) == 1 else named[0][0]
        return _not_probed(which, train_command(members[0], probe=True))
    return Section("inside", INSIDE, *blocks)


def _bn_settings(member: TrainedModel) -> str:
    model, units = member.model, sum(member.model.hidden)
    position = f"{model.bn_position} its {model.activation} activation"
    if model.activation == "linear":
        position = "after its Dense layer"
    return (
        f"Here each hidden layer has a BN layer {position}, with {2 * units:,} trained parameters "
        f"for {plural(units, 'unit')} (batch size {option_text(member.training.batch_size)}, "
        f"momentum of the moving averages {option_text(model.bn_momentum)}, "
        f"ε {option_text(model.bn_epsilon)})."
    )


def _charts(probed: Sequence[Run], prefix: str) -> list[Charts]:
    return [
        figure_charts(picture.figure, picture.caption, f"{prefix}-{name}")
        for name, picture in pictures(probed).items()
    ]


def _not_probed(which: str, command: str) -> Section:
    words = (
        f"No probes were recorded. To train {which} again and record gradients, activations, BN "
        "statistics and the loss landscape:"
    )
    return Section("inside", INSIDE, Paragraph(words), Code([command]))

"""`kerasbn infer`."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGES]...")
@click.option(
    "--model", metavar="MODEL.onnx", help="The exported network.  [default: ./model.onnx]"
)
@click.option("--count", default=8, show_default=True, help="How many digits to show.")
@click.option("--batch-size", default=256, show_default=True, help="Pictures answered at a time.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="What computes the answers.",
)
@click.option("--data-dir", metavar="FOLDER", help="The folder with MNIST's four files.")
@click.option("--raw", is_flag=True, help="Bring pictures of digits to 28x28 and do no more.")
@click.option("--scale", default=1.0, show_default=True, help="Multiply pixels, 0 to 255, by this.")
@click.option("--offset", default=0.0, show_default=True, help="Then add this.")
@click.option(
    "--labels", type=click.Path(path_type=Path), help="A file with a class's name a line."
)
@click.option(
    "--save-inputs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write what the network saw as pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
def command(
    images: tuple[str, ...],
    model: str | None,
    count: int,
    batch_size: int,
    device: str,
    data_dir: str | None,
    raw: bool,
    scale: float,
    offset: float,
    labels: Path | None,
    save_inputs: Path | None,
    as_json: bool,
) -> None:
    """Answer pictures with an exported network; without any, digits it was not trained on.

    IMAGES are PNG or JPEG files, folders, patterns such as 'digits/*.png', or - for standard input.
    Photographs of digits are brought into MNIST's form: grey, light ink on dark paper, fitted into
    20x20 pixels and centred by mass in 28x28. Pictures for other classifiers are resized.

    The exit code is 1 if some of several pictures could not be answered.

    \b
    Example:
      kerasbn infer
      kerasbn infer seven.png photos/
    """
    from kerasbn.inference.classifier import Classifier
    from kerasbn.inference.infer import answer_pictures, model_path, read_labels, show_digits

    classifier = Classifier(
        model_path(model),
        device=device,
        batch_size=batch_size,
        scale=scale,
        offset=offset,
        labels=read_labels(labels),
    )
    if images:
        answered = answer_pictures(classifier, images, raw=raw, save_inputs=save_inputs)
        if as_json:
            click.echo(json.dumps(answered.as_dict()))
        else:
            for line in answered.lines():
                click.echo(line)
        for problem in answered.failed.values():
            click.echo(problem, err=True)
        answered.check()
        return
    shown = show_digits(classifier, count, data_dir)
    click.echo(json.dumps(shown.as_dict()) if as_json else shown.text())

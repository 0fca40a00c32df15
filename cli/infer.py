"""`kerasbn infer`."""

import json
from pathlib import Path

import click

from .options import data_dir_option, json_option, labels_option, offset_option, scale_option
from .output import echo


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGES]...")
@click.option(
    "--model",
    default="model.onnx",
    metavar="MODEL.onnx",
    help="Exported model.  [default: ./model.onnx]",
)
@click.option("--count", default=8, show_default=True, help="Number of sample images.")
@click.option("--batch-size", default=256, show_default=True, help="Batch size.")
@click.option(
    "--device", default="cpu", show_default=True, metavar="cpu|gpu", help="Device to run on."
)
@data_dir_option
@click.option("--raw", is_flag=True, help="Only resize images of digits to 28x28.")
@scale_option
@offset_option
@labels_option
@click.option("--save-inputs", metavar="DIR", help="Save the preprocessed inputs as images.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Figure of the confusion matrix (.png, .svg or .pdf).",
)
@json_option
def command(
    images: tuple[str, ...],
    model: str,
    count: int,
    batch_size: int,
    device: str,
    data_dir: str | None,
    raw: bool,
    scale: float,
    offset: float,
    labels: str | None,
    save_inputs: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Classify images with an exported model. Without images, show sample predictions.

    IMAGES are image files, folders, patterns such as 'digits/*.png', or - for standard input. For
    models trained on MNIST, photographs of digits are converted to MNIST's format: white on black,
    scaled to 20x20 pixels and centered by mass in 28x28. Several digits in one image are read in
    order. For other models, images are resized.

    A folder with one subfolder per class also gives the accuracy and the confusion matrix.

    The exit code is 1 if some of several images could not be classified.

    \b
    Example:
      kerasbn infer
      kerasbn infer seven.png photos/
      kerasbn infer test-images/ -o confusion.png
    """
    from kerasbn.common.errors import ArgumentError, CheckFailedError
    from kerasbn.common.files import check_new_file
    from kerasbn.inference.classifier import Classifier
    from kerasbn.inference.infer import parse_labels, predict_files, predict_samples

    unlabeled = ArgumentError(
        "output", output, "a folder with one subfolder per class", "leave it out",
        received="no images with a true class",
    )  # fmt: skip
    if output is not None:
        check_new_file(output, ".png", ".svg", ".pdf")
        if not images:
            raise unlabeled
    names = None if labels is None else parse_labels(labels)
    classifier = Classifier(
        model, device=device, batch_size=batch_size, scale=scale, offset=offset, labels=names
    )
    if not images:
        samples = predict_samples(classifier, count, data_dir)
        echo(*([json.dumps(samples.as_dict())] if as_json else samples.lines()))
        return
    folder = None if save_inputs is None else Path(save_inputs)
    found = predict_files(classifier, images, raw=raw, save_inputs=folder)
    echo(*([json.dumps(found.as_dict())] if as_json else found.lines()))
    if output is not None:
        if found.confusion is None:
            raise unlabeled
        from kerasbn.common.plotting import save_figure

        save_figure(found.confusion.figure(), output)
    echo(*found.failed.values(), err=True)
    if found.failed:
        total = len(found.predictions) + len(found.failed)
        raise CheckFailedError(f"{len(found.failed)} of {total} images could not be classified")

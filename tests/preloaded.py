"""Imports what commands import, in the same way: the server of forked commands begins with it."""

from importlib import import_module

from kerasbn.common.keras_internals import quiet_tensorflow

quiet_tensorflow()
for name in (
    "kerasbn.cli.main", "kerasbn.experiments.compare", "kerasbn.experiments.recalibrate",
    "kerasbn.onnx_export.export", "kerasbn.reports.report", "kerasbn.sweeps.sweep", "tf2onnx",
    "pooch", "requests", "rich.progress",
):  # fmt: skip
    import_module(name)

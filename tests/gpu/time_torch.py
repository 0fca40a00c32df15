"""Time the epochs of a PyTorch program with all images on the device from the start."""

import time
from itertools import pairwise

import torch  # type: ignore[import-not-found]
from torch import nn

from .specs import EVALUATION_BATCH, Spec, given, report


def model_of(spec: Spec, bn: bool) -> nn.Sequential:
    """Return the MLP, initialized as Keras does."""
    sizes, layers = (784, *spec.hidden), [nn.Flatten()]
    for n, m in pairwise(sizes):
        layers.append(nn.Linear(n, m, bias=not bn))
        layers += [nn.BatchNorm1d(m, eps=1e-5, momentum=0.1)] if bn else []
        layers.append(nn.ReLU())
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


def main() -> None:
    """Train, and print the result."""
    spec, data, _ = given()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32, as TensorFlow and JAX do
    device = torch.device("cuda" if spec.device == "gpu" and torch.cuda.is_available() else "cpu")
    splits = [
        (torch.tensor(split.images).to(device), torch.tensor(split.labels).long().to(device))
        for split in (data.train, data.test)
    ]
    models = {"bn": model_of(spec, True).to(device), "plain": model_of(spec, False).to(device)}
    optimizers = {
        kind: torch.optim.Adam(
            model.parameters(), lr=0.01, eps=1e-7, fused=device.type == "cuda" or None
        )
        for kind, model in models.items()
    }
    images, labels = splits[0]
    seconds: list[float] = []
    accuracies: dict[str, float] = {}
    for _ in range(spec.epochs):
        began = time.perf_counter()
        order = torch.randperm(len(images), device=device)
        for rows in order.split(spec.batch_size)[: len(images) // spec.batch_size]:
            batch, wanted = images[rows].float() / 255, labels[rows]
            for kind, model in models.items():
                model.train()
                optimizers[kind].zero_grad()
                nn.functional.cross_entropy(model(batch), wanted).backward()
                optimizers[kind].step()
        with torch.no_grad():
            accuracies = {kind: evaluated(model, splits) for kind, model in models.items()}
        seconds.append(time.perf_counter() - began)
    report(seconds, accuracies, device=str(device))


def evaluated(model: nn.Module, splits: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the test accuracy, after an evaluation on both splits."""
    model.eval()
    found = 0.0
    for images, labels in splits:
        loss = correct = torch.zeros((), device=images.device)
        parts = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
        for batch, wanted in parts:
            logits = model(batch.float() / 255)
            loss = loss + nn.functional.cross_entropy(logits, wanted, reduction="sum")
            correct = correct + (logits.argmax(1) == wanted).sum()
        loss.item()
        found = correct.item() / len(images)
    return found


if __name__ == "__main__":
    main()

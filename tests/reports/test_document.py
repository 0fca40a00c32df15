"""The content of a page, read from its HTML: equal to the numbers on disk, complete, and safe."""

import base64
import csv
import hashlib
import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kerasbn import runs
from kerasbn.experiments.comparison import Comparison
from kerasbn.probes.topics import TOPICS
from kerasbn.reports.report import report
from kerasbn.sweeps.findings import answer_and_details
from kerasbn.sweeps.study import read_study

PAPER = "https://arxiv.org/abs/1502.03167"
Compared = tuple[Path, Comparison]
VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Element:
    """An element with its text and its child elements."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inner: list["Element"] = field(default_factory=list)

    def all(self, tag: str, kind: str = "") -> list["Element"]:
        """Return the descendants with a tag and perhaps a class."""
        found = []
        for each in self.inner:
            if each.tag == tag and kind in ("", *(each.attributes.get("class") or "").split()):
                found.append(each)
            found += each.all(tag, kind)
        return found


class Page(HTMLParser):
    """The page as a tree; fails where elements are not nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self._open[-1].inner.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].inner.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


def page_of(path: Path, *subjects: Path) -> Element:
    return Page(report(*subjects, output=path / "report.html").read_text()).root


@pytest.fixture(scope="module")
def probed_text(probed: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a probed pair and of one of its runs."""
    output = tmp_path_factory.mktemp("probed") / "report.html"
    return report(probed, probed.parent / "bn", output=output).read_text()


@pytest.fixture(scope="module")
def pair_page(comparison: Compared, tmp_path_factory: pytest.TempPathFactory) -> Element:
    return page_of(tmp_path_factory.mktemp("pair"), comparison[0] / "compare")


@pytest.fixture(scope="module")
def seeds_page(seeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Element:
    return page_of(tmp_path_factory.mktemp("seeds"), seeds)


def first_panel(page: Element) -> Any:
    """Return the values of the first chart."""
    data = json.loads(page.all("script")[0].text)
    (panel,) = data["charts"][page.all("div", "plot")[0].attributes["data-chart"]]
    return panel


def rows_of(table: Element) -> list[list[float | str]]:
    """Return the rows of a table: exact numbers where it has them, text elsewhere."""
    rows: list[list[float | str]] = []
    for row in table.all("tr")[1:]:
        cells = [each for each in row.inner if each.tag in ("th", "td")]
        rows.append([_cell(each) for each in cells])
    return rows


def _cell(element: Element) -> float | str:
    found = element.all("data")
    return float(found[0].attributes["value"] or "") if found else element.text


def tables_of(page: Element) -> dict[str, Element]:
    """Return the tables of the page by title."""
    collapsed = {each.all("summary")[0].text: each.all("table")[0] for each in page.all("details")}
    open_ = {each.all("caption")[0].text: each for each in page.all("table") if each.all("caption")}
    return collapsed | open_


def test_the_numbers_of_many_seeds_are_those_of_the_csv(seeds: Path, seeds_page: Element) -> None:
    tables = tables_of(seeds_page)
    names = {"val_accuracy": "Test accuracy", "val_loss": "Test loss",
             "accuracy": "Training accuracy", "loss": "Training loss"}  # fmt: skip
    with (seeds / "compare.csv").open(newline="") as lines:
        records = list(csv.DictReader(lines))
    for metric, name in names.items():
        wanted = [
            [float(row[c]) for c in ("epoch", "with_bn_mean", "without_bn_mean", "difference")]
            for row in records
            if row["metric"] == metric
        ]
        assert len(wanted) == 3
        assert rows_of(tables[f"{name} by epoch"]) == [pytest.approx(row) for row in wanted]
        (last,) = [row for row in rows_of(tables["After 3 epochs"]) if row[0] == name]
        assert last[1:] == pytest.approx(wanted[-1][1:])


def test_shown_numbers_are_rounded_exact_ones(seeds_page: Element) -> None:
    found = [each for each in seeds_page.all("data") if "%" in each.text and "±" in each.text]
    assert len(found) > 10
    for each in found:
        shown = float(each.text.split(" ± ")[0])
        assert shown == pytest.approx(100 * float(each.attributes["value"] or ""), abs=0.00501)


def test_the_numbers_of_a_pair_are_those_of_its_histories(
    comparison: Compared, pair_page: Element
) -> None:
    _, result = comparison
    table = tables_of(pair_page)["Test loss by epoch"]
    columns = zip(
        result.with_bn[0].history["epoch"],
        result.with_bn[0].history["val_loss"],
        result.without_bn[0].history["val_loss"],
        strict=True,
    )
    assert rows_of(table) == [list(row) for row in columns]


def test_the_charts_have_the_same_values(comparison: Compared, pair_page: Element) -> None:
    _, result = comparison
    panel = first_panel(pair_page)
    assert panel["at"] == ["epoch 1", "epoch 2", "epoch 3"]
    for series, run in zip(panel["series"], result.members, strict=True):
        shown = [f"{100 * value:.2f}%" for value in run.history["val_accuracy"]]
        assert series["text"] == shown


@pytest.mark.slow
def test_the_two_runs_of_a_pair_are_reported_as_a_comparison(
    comparison: Compared, pair_page: Element, tmp_path: Path
) -> None:
    root, _ = comparison
    two = page_of(tmp_path, root / "plain", root / "bn")
    assert pair_page.all("article")[0].text == two.all("article")[0].text
    alone = page_of(tmp_path, root / "bn")
    assert "How well does a" in alone.all("h1")[0].text
    assert "kerasbn train --bn --epochs 3 --seed 1 --dataset mnist-sample" in alone.text


@pytest.mark.slow
def test_the_page_needs_nothing_else(
    comparison: Compared, probed_text: str, swept: Path, tmp_path: Path
) -> None:
    """All addresses are within the page, except of links, and its script is the only one."""
    pair, study = (
        report(subject, output=tmp_path / "a.html").read_text()
        for subject in (comparison[0] / "compare", swept)
    )
    for text in (pair, study, probed_text):
        page = Page(text).root
        for element in (e for tag in ("a", "link", "image", "use", "script", "img", "iframe")
                        for e in page.all(tag)):  # fmt: skip
            for key in ("href", "src", "xlink:href"):
                address = element.attributes.get(key)
                inside = address is None or address.startswith(("#", "data:"))
                assert inside or (element.tag, address) == ("a", PAPER), address
        assert "@import" not in text
        assert not re.search(r"url\((?!#)", text)
        data, script = page.all("script")
        assert data.attributes["type"] == "application/json"
        digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
        (policy,) = [e.attributes["content"] or "" for e in page.all("meta")
                     if e.attributes.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
        assert policy.startswith("default-src 'none';")
        assert f"script-src 'sha256-{digest}';" in policy


@pytest.mark.slow
def test_ids_are_unique_and_references_resolve(probed_text: str) -> None:
    identities = re.findall(r'\bid="([^"]+)"', probed_text)
    assert len(identities) == len(set(identities))
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', probed_text))
    assert len(referred) > 20
    assert referred <= set(identities)


@pytest.mark.slow
def test_every_color_is_defined_for_light_and_dark(probed_text: str) -> None:
    used = set(re.findall(r"var\((--c-[0-9a-f]{6})\)", probed_text))
    assert len(used) > 5
    for name in used:
        assert probed_text.count(f"{name}: #") == 2


@pytest.mark.slow
def test_a_name_may_contain_anything(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    names = ["<script>alert(1)<\u2215script>", "\"><img src=x onerror=alert(1)>", "$\\frac{$ x $",
             "_hidden", "a&amp;b", "{{ 7*7 }}", "ünï¢ødé", "new\nline"]  # fmt: skip
    folders = [tmp_path / name for name in names]
    for folder in folders:
        shutil.copytree(root / "bn", folder)
    page = page_of(tmp_path, *folders)
    assert len(page.all("script")) == 2
    assert page.all("img") == []
    assert [each.text for each in page.all("ul", "legend")[0].all("li")] == names
    assert [each["label"] for each in first_panel(page)["series"]] == names
    report(*folders, output=tmp_path / "a.png")


def test_a_name_that_is_not_text_is_shown(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    folder = tmp_path / b"bad\xff".decode("utf-8", "surrogateescape")
    shutil.copytree(root / "bn", folder)
    assert "bad?" in page_of(tmp_path, folder).text


@pytest.mark.slow
def test_probes_are_shown(probed_text: str) -> None:
    page = Page(probed_text).root
    pair, run = (
        [each.text for each in article.all("h3", "subheading")] for article in page.all("article")
    )
    assert len(pair) == len(run) == len(TOPICS)
    assert "Does the gradient reach the first layers?" in pair
    assert "How predictions depend on batch composition" in run
    assert "--probe" in page.all("pre")[-1].text


def test_without_probes_the_page_has_the_command_to_record_them(pair_page: Element) -> None:
    command = "kerasbn compare --probe --epochs 3 --seed 1 --dataset mnist-sample"
    assert command in pair_page.text


@pytest.mark.slow
def test_a_study_is_shown_with_all_its_numbers(swept: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, swept)
    study = read_study(swept)
    rows = rows_of(tables_of(page)["Test accuracy"])
    assert len(rows) == 6
    for row in rows:
        point = tuple(str(row[0]).split(", "))
        for column, bn in ((1, True), (2, False)):
            own = [
                accuracy
                for each in study.trials
                if (f"{each.training.lr:g}", each.model.activation) == point
                and each.bn == bn
                and (accuracy := study.outcomes[each.name].val_accuracy) is not None
            ]
            wanted = sum(own) / len(own) if own else None
            assert row[column] == ("-" if wanted is None else pytest.approx(wanted))
    assert sum(row[4] == "3 without" for row in rows) == 2
    assert page.all("h1")[0].text == "Which learning rates does a network learn at?"
    assert "kerasbn sweep x" in page.text
    assert page.all("p", "answer")[0].text == " ".join(answer_and_details(study)[0])
    findings = page.all("ul")[0].text
    assert findings
    assert answer_and_details(study)[0][0] not in findings
    assert "The model without BN is the same except" in page.text
    assert "95% interval" in tables_of(page)["Test accuracy"].text


@pytest.mark.slow
def test_a_comparison_without_its_runs_is_shown_from_its_record(
    comparison: Compared, pair_page: Element, tmp_path: Path
) -> None:
    root, _ = comparison
    (tmp_path / "there").mkdir()
    shutil.copytree(root / "compare", tmp_path / "there" / "compare")
    alone = page_of(tmp_path, tmp_path / "there" / "compare")
    assert alone.all("div", "tiles")[0].text == pair_page.all("div", "tiles")[0].text
    assert [e.attributes for e in alone.all("data")] == [
        e.attributes for e in pair_page.all("data")
    ]
    assert "Versions" not in alone.text  # only the runs have them


@pytest.mark.slow
def test_another_run_of_the_same_name_is_not_used(
    comparison: Compared, probed: Path, tmp_path: Path
) -> None:
    root, _ = comparison
    shutil.copytree(root / "compare", tmp_path / "compare")
    for name in ("bn", "plain"):
        shutil.copytree(probed.parent / name, tmp_path / name)
    assert "Does the gradient" not in page_of(tmp_path, tmp_path / "compare").text


def test_models_that_diverged_are_named_and_left_out_of_means(seeds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "compare"
    shutil.copytree(seeds, folder)
    record = json.loads((folder / "compare.json").read_text())
    record["without_bn"][1]["status"] = "diverged"
    (folder / "compare.json").write_text(json.dumps(record))
    page = page_of(tmp_path, folder)
    assert "1 of 3 diverged" in page.all("div", "tiles")[0].text
    assert "without BN (seed 5)" in page.text
    kept = [record["without_bn"][i]["history"]["val_accuracy"][-1] for i in (0, 2)]
    (row,) = [r for r in rows_of(tables_of(page)["After 3 epochs"]) if r[0] == "Test accuracy"]
    assert row[2] == pytest.approx(sum(kept) / 2)


def test_a_pair_that_diverged_at_once_has_a_page(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    shutil.copytree(root / "compare", tmp_path / "compare")
    file = tmp_path / "compare" / "compare.json"
    record = json.loads(file.read_text())
    for kind in ("with_bn", "without_bn"):
        (member,) = record[kind]
        member["status"] = "diverged"
        member["history"] = {name: [] for name in runs.HISTORY_COLUMNS}
    file.write_text(json.dumps(record))
    page = page_of(tmp_path, tmp_path / "compare")
    answer = page.all("p", "answer")[0].text
    assert answer == "Test accuracy: with BN diverged, without diverged."


def test_runs_of_different_lengths_and_endings_are_shown_together(
    comparison: Compared, tmp_path: Path
) -> None:
    """One of three epochs, one of one, one that diverged in its first, one recalibrated."""
    root, result = comparison
    endings = {"short": ("interrupted", 2), "gone": ("diverged", 1)}
    for name, (status, lines) in endings.items():
        shutil.copytree(root / "bn", tmp_path / name)
        history = tmp_path / name / runs.HISTORY
        history.write_text("".join(history.read_text().splitlines(keepends=True)[:lines]))
        file = tmp_path / name / runs.RECORD
        record = json.loads(file.read_text()) | {"status": status, "diverged_at_step": 7}
        file.write_text(json.dumps(record))
    shutil.copytree(root / "bn", tmp_path / "again")
    file = tmp_path / "again" / runs.RECORD
    recalibrated = {"from": "bn", "variance": "plain", "data": "4,000 images of mnist-sample"}
    file.write_text(json.dumps(
        json.loads(file.read_text())
        | {"final": {"val_accuracy": 0.8765}, "recalibrated": recalibrated}
    ))  # fmt: skip
    page = page_of(tmp_path, root / "bn", *(tmp_path / name for name in (*endings, "again")))
    rows = {str(row[0]): row[1:] for row in rows_of(page.all("table")[0])}
    accuracies = result.with_bn[0].history["val_accuracy"]
    assert [rows[name][0] for name in ("bn", "short", "gone", "again")] == [
        accuracies[-1], accuracies[0], "-", 0.8765,
    ]  # fmt: skip
    texts = {each["label"]: each["text"] for each in first_panel(page)["series"]}
    assert texts["short (interrupted)"][1:] == [None, None]
    assert "gone (diverged at step 7)" in page.all("ul", "legend")[0].text
    assert "gone" not in "".join(texts)
    for color in re.findall(r"var\((--c-\w+)\)", str([e.attributes for e in page.all("i")])):
        assert f"{color}: #" in page.all("style")[0].text
    assert "kerasbn recalibrate bn --variance plain" in page.text

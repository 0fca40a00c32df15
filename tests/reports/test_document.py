"""What the page says, read from its HTML: equal to the figures on disk, whole, and harmless."""

import base64
import csv
import hashlib
import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kerasbn import runs
from kerasbn.experiments.comparison import Comparison
from kerasbn.reports.report import report
from kerasbn.sweeps.findings import parted
from kerasbn.sweeps.study import read_study

Compared = tuple[Path, Comparison]
VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Element:
    """An element of the page, with all text in it and the elements in it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inner: list["Element"] = field(default_factory=list)

    def all(self, tag: str, kind: str = "") -> list["Element"]:
        """The elements of this tag within, of this class."""
        found = []
        for each in self.inner:
            if each.tag == tag and kind in ("", *(each.attributes.get("class") or "").split()):
                found.append(each)
            found += each.all(tag, kind)
        return found


class Page(HTMLParser):
    """The page as a tree; raises where an element is not closed in its turn."""

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
    return Page(report([str(each) for each in subjects], path / "report.html").read_text()).root


def rows_of(table: Element) -> list[list[float | str]]:
    """The rows of a table: exact numbers where there are, text elsewhere."""
    rows: list[list[float | str]] = []
    for row in table.all("tr")[1:]:
        cells = [each for each in row.inner if each.tag in ("th", "td")]
        rows.append([_cell(each) for each in cells])
    return rows


def _cell(element: Element) -> float | str:
    found = element.all("data")
    return float(found[0].attributes["value"] or "") if found else element.text


def tables_of(page: Element) -> dict[str, Element]:
    """The tables of the page by their titles."""
    closed = {each.all("summary")[0].text: each.all("table")[0] for each in page.all("details")}
    opened = {
        each.all("caption")[0].text: each for each in page.all("table") if each.all("caption")
    }
    return closed | opened


def test_every_figure_of_many_seeds_is_that_of_the_csv(seeds: Path, tmp_path: Path) -> None:
    tables = tables_of(page_of(tmp_path, seeds))
    names = {"val_accuracy": "Test accuracy", "val_loss": "Test loss",
             "accuracy": "Training accuracy", "loss": "Training loss"}  # fmt: skip
    with (seeds / "compare.csv").open(newline="") as lines:
        told = list(csv.DictReader(lines))
    for figure, name in names.items():
        wanted = [
            [float(row[c]) for c in ("epoch", "with_bn_mean", "without_bn_mean", "difference")]
            for row in told
            if row["figure"] == figure
        ]
        assert len(wanted) == 3
        assert rows_of(tables[f"{name}, every epoch"]) == [pytest.approx(row) for row in wanted]
        (last,) = [row for row in rows_of(tables["After 3 epochs"]) if row[0] == name]
        assert last[1:] == pytest.approx(wanted[-1][1:])


def test_what_is_shown_is_the_figure_rounded(seeds: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, seeds)
    found = [each for each in page.all("data") if "%" in each.text and "±" in each.text]
    assert len(found) > 10
    for each in found:
        shown = float(each.text.split(" ± ")[0])
        assert shown == pytest.approx(100 * float(each.attributes["value"] or ""), abs=0.00501)


def test_every_figure_of_a_pair_is_that_of_its_histories(
    comparison: Compared, tmp_path: Path
) -> None:
    root, result = comparison
    table = tables_of(page_of(tmp_path, root / "compare"))["Test loss, every epoch"]
    columns = zip(
        result.probed_runs[0].history["epoch"],
        result.probed_runs[0].history["val_loss"],
        result.probed_runs[1].history["val_loss"],
        strict=True,
    )
    assert rows_of(table) == [list(row) for row in columns]


def test_the_charts_tell_the_same_values(comparison: Compared, tmp_path: Path) -> None:
    root, result = comparison
    plot = page_of(tmp_path, root / "compare").all("div", "plot")[0]
    (panel,) = json.loads(plot.attributes["data-panels"] or "")
    assert panel["at"] == ["epoch 1", "epoch 2", "epoch 3"]
    for series, run in zip(panel["series"], result.probed_runs, strict=True):
        shown = [f"{100 * value:.2f}\u00a0%" for value in run.history["val_accuracy"]]
        assert series["text"] == shown


def test_two_runs_of_a_pair_are_told_as_the_comparison_they_are(
    comparison: Compared, tmp_path: Path
) -> None:
    root, _ = comparison
    one = page_of(tmp_path, root / "compare")
    two = page_of(tmp_path, root / "plain", root / "bn")
    assert one.all("article")[0].text == two.all("article")[0].text
    alone = page_of(tmp_path, root / "bn")
    assert "How well did a" in alone.all("h1")[0].text
    assert "kerasbn train --bn --epochs 3 --seed 1 --dataset mnist-sample" in alone.text


def test_the_page_needs_nothing_else(
    comparison: Compared, probed: Path, swept: Path, tmp_path: Path
) -> None:
    """No address but within the page, one script, and a policy that allows no other."""
    for subject in (comparison[0] / "compare", probed, swept):
        text = report([str(subject)], tmp_path / "a.html").read_text()
        page = Page(text).root
        for element in (e for tag in ("a", "link", "image", "use", "script", "img", "iframe")
                        for e in page.all(tag)):  # fmt: skip
            for key in ("href", "src", "xlink:href"):
                address = element.attributes.get(key)
                assert address is None or address.startswith(("#", "data:")), address
        assert "@import" not in text
        assert not re.search(r"url\((?!#)", text)
        (script,) = page.all("script")
        digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
        (policy,) = [e.attributes["content"] or "" for e in page.all("meta")
                     if e.attributes.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
        assert policy.startswith("default-src 'none';")
        assert f"script-src 'sha256-{digest}';" in policy


def test_every_id_is_one_and_every_reference_finds_it(probed: Path, tmp_path: Path) -> None:
    text = report([str(probed), str(probed / ".." / "bn")], tmp_path / "a.html").read_text()
    identities = re.findall(r'\bid="([^"]+)"', text)
    assert len(identities) == len(set(identities))
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert len(referred) > 20
    assert referred <= set(identities)


def test_every_colour_of_a_picture_is_defined_for_light_and_dark(
    probed: Path, tmp_path: Path
) -> None:
    text = report([str(probed)], tmp_path / "a.html").read_text()
    used = set(re.findall(r"var\((--c-[0-9a-f]{6})\)", text))
    assert len(used) > 5
    for name in used:
        assert text.count(f"{name}: #") == 2


def test_a_name_may_be_anything(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    names = ["<script>alert(1)<\u2215script>", "\"><img src=x onerror=alert(1)>", "$\\frac{$ x $",
             "_hidden", "a&amp;b", "{{ 7*7 }}", "ünï¢ødé", "new\nline"]  # fmt: skip
    folders = [tmp_path / name for name in names]
    for folder in folders:
        shutil.copytree(root / "bn", folder)
    page = page_of(tmp_path, *folders)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    keys = [each.text for each in page.all("ul", "key")[0].all("li")]
    assert keys == [f"{name}, with BN" for name in names]
    (panel,) = json.loads(page.all("div", "plot")[0].attributes["data-panels"] or "")
    assert [each["label"] for each in panel["series"]] == keys
    report([str(folder) for folder in folders], tmp_path / "a.png")


def test_a_name_that_is_no_text_may_be_shown(comparison: Compared, tmp_path: Path) -> None:
    root, _ = comparison
    folder = tmp_path / b"bad\xff".decode("utf-8", "surrogateescape")
    shutil.copytree(root / "bn", folder)
    assert "bad?" in page_of(tmp_path, folder).text


def test_what_probes_found_is_told(probed: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, probed)
    headings = [each.text for each in page.all("h3", "picture")]
    assert "Does the gradient reach the first layers?" in headings
    assert "How an answer depends on its batch-mates" in headings
    assert "--probe" in page.all("pre")[-1].text
    plain = page_of(tmp_path, probed, probed.parent / "plain")
    assert plain.text.count("Does the gradient reach") >= 2  # the pair's, and the run's own


def test_without_probes_the_page_says_how_to_have_them(
    comparison: Compared, tmp_path: Path
) -> None:
    root, _ = comparison
    page = page_of(tmp_path, root / "compare")
    assert "kerasbn compare --probe --epochs 3 --seed 1 --dataset mnist-sample" in page.text


def test_a_sweep_is_told_with_all_its_figures(swept: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, swept)
    study = read_study(swept)
    rows = rows_of(tables_of(page)["Test accuracy"])
    assert len(rows) == 6
    for row in rows:
        point = tuple(str(row[0]).split(", "))
        for column, bn in ((1, True), (2, False)):
            own = [
                study.results[each.name].figures["val_accuracy"]
                for each in study.configurations
                if (f"{each.training.lr:g}", each.network.activation) == point
                and each.bn == bn
                and study.results[each.name].status == "finished"
            ]
            wanted = sum(own) / len(own) if own else None
            assert row[column] == ("\u2013" if wanted is None else pytest.approx(wanted))
    assert sum(row[4] == "3 without" for row in rows) == 2
    assert page.all("h1")[0].text == "Which learning rates does a network learn at?"
    assert "kerasbn sweep x" in page.text
    assert page.all("p", "answer")[0].text == " ".join(parted(study)[0])
    told = page.all("ul")[0].text
    assert "Best with BN" in told
    assert parted(study)[0][0] not in told
    assert "Its partner without BN is the same" in page.text  # who reads nothing else understands
    assert tables_of(page)["Test accuracy"].all("th")[3].text == "Difference (95 % interval)"


def test_a_comparison_whose_runs_are_gone_is_told_from_its_record(
    comparison: Compared, tmp_path: Path
) -> None:
    root, _ = comparison
    (tmp_path / "there").mkdir()
    shutil.copytree(root / "compare", tmp_path / "there" / "compare")
    told = page_of(tmp_path, tmp_path / "there" / "compare")
    whole = page_of(tmp_path, root / "compare")
    assert told.all("div", "tiles")[0].text == whole.all("div", "tiles")[0].text
    assert [e.attributes for e in told.all("data")] == [e.attributes for e in whole.all("data")]
    assert "Versions" not in told.text  # which only the runs know


def test_another_run_of_the_name_is_not_taken_for_it(
    comparison: Compared, probed: Path, tmp_path: Path
) -> None:
    root, _ = comparison
    shutil.copytree(root / "compare", tmp_path / "compare")
    for name in ("bn", "plain"):
        shutil.copytree(probed.parent / name, tmp_path / name)
    assert "Does the gradient" not in page_of(tmp_path, tmp_path / "compare").text
    assert "Does the gradient" in page_of(tmp_path, probed).text


def test_members_that_diverged_are_said_and_in_no_mean(seeds: Path, tmp_path: Path) -> None:
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


def test_a_pair_of_which_both_diverged_at_once_has_a_page(
    comparison: Compared, tmp_path: Path
) -> None:
    root, _ = comparison
    shutil.copytree(root / "compare", tmp_path / "compare")
    file = tmp_path / "compare" / "compare.json"
    record = json.loads(file.read_text())
    for kind in ("with_bn", "without_bn"):
        record[kind][0]["status"] = "diverged"
        record[kind][0]["history"] = {name: [] for name in runs.HISTORY_COLUMNS}
    file.write_text(json.dumps(record))
    page = page_of(tmp_path, tmp_path / "compare")
    assert "No figures to compare: 1 of 1 with BN and 1 of 1 without BN diverged." in page.text


def test_runs_of_other_lengths_and_ends_stand_side_by_side(
    comparison: Compared, tmp_path: Path
) -> None:
    """One of three epochs, one of one, one that diverged in its first, one recalibrated."""
    root, result = comparison
    endings = {"short": ("interrupted", 2), "sick": ("diverged", 1)}
    for name, (status, lines) in endings.items():
        shutil.copytree(root / "bn", tmp_path / name)
        history = tmp_path / name / runs.HISTORY
        history.write_text("".join(history.read_text().splitlines(keepends=True)[:lines]))
        file = tmp_path / name / runs.RECORD
        record = json.loads(file.read_text()) | {"status": status, "diverged_at_step": 7}
        file.write_text(json.dumps(record))
    shutil.copytree(root / "bn", tmp_path / "again")
    file = tmp_path / "again" / runs.RECORD
    recalibrated = {"from": "bn", "variance": "plain", "data": "4,000 digits of mnist-sample"}
    file.write_text(json.dumps(
        json.loads(file.read_text())
        | {"final": {"val_accuracy": 0.8765}, "recalibrated": recalibrated}
    ))  # fmt: skip
    page = page_of(tmp_path, root / "bn", *(tmp_path / name for name in (*endings, "again")))
    rows = {str(row[0]): row[1:] for row in rows_of(page.all("table")[0])}
    assert rows["bn, with BN"][0] == result.probed_runs[0].history["val_accuracy"][-1]
    assert rows["short, with BN"][0] == result.probed_runs[0].history["val_accuracy"][0]
    assert rows["sick, with BN"][0] == "\u2013"
    assert rows["again, with BN"][0] == 0.8765
    (panel,) = json.loads(page.all("div", "plot")[0].attributes["data-panels"] or "")
    texts = {each["label"]: each["text"] for each in panel["series"]}
    assert texts["short, with BN (interrupted)"][1:] == [None, None]
    assert "sick, with BN (diverged at step 7)" in page.all("ul", "key")[0].text
    assert "sick" not in "".join(texts)
    for colour in re.findall(r"var\((--c-\w+)\)", str([e.attributes for e in page.all("i")])):
        assert f"{colour}: #" in page.all("style")[0].text
    assert "kerasbn recalibrate bn --variance plain" in page.text

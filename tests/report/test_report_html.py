"""The page: well-formed, self-contained, escaped, and with every part that the report has."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from report_samples import HOSTILE, measurement

from tfbig.report.charts import Point, curves, scatter
from tfbig.report.environment import environment
from tfbig.report.html import html, write_html
from tfbig.report.markup import element
from tfbig.report.report import Report, Row

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects tags, text and attributes, and raises where a tag is not closed in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(report):
    return Page(html(report))


def test_it_is_well_formed_and_escaped(page):
    assert page.tags.count("script") == 0
    assert HOSTILE in "".join(page.text)
    assert not [a for a in page.attributes if a[1].startswith("on")]


def test_it_needs_no_network(report, page):
    source = html(report)
    assert not re.search(r"https?:|//|url\(|@import|<link|<img|<iframe", source)
    assert not [a for a in page.attributes if a[1] in ("src", "href", "srcset")]


def test_it_is_made_for_dark_and_narrow(report):
    source = html(report)
    assert "prefers-color-scheme: dark" in source and "max-width: 640px" in source
    assert 'name="viewport" content="width=device-width' in source and '<html lang="en">' in source


def test_the_verdict_comes_first(report, page):
    said = [part for part in page.text if part.strip()]
    first = said.index(report.verdict)
    assert first < said.index("Stage by stage")
    assert said[first + 2] == "8.8x"


def test_every_part_is_there(report):
    source = html(report)
    titles = re.findall(r"<h2>(.*?)</h2>", source)
    assert titles == [
        *("Stage by stage", "Quality against size", "Where the bytes and the milliseconds are"),
        *("What rounding each layer costs", "Operations that stayed float"),
        *("Training", "Run it again", "Made with"),
    ]
    for expected in ("96,488", "-0.80", "91.21 %", "80.0 %", "CONV_2D", "because of", "no kernel", "2.21.0"):
        assert expected in source, expected
    assert "sparsity: 0.8" in source and "out/model.tflite" in source


def test_parts_without_content_are_left_out(rows):
    source = html(Report("bare", rows[:1]))
    Page(source)
    assert re.findall(r"<h2>(.*?)</h2>", source) == ["Stage by stage"]
    Page(html(Report("empty", ())))


def test_a_file_without_float_operations_says_so(report):
    inspection = next(iter(report.inspections.values()))
    clean = dataclasses.replace(inspection, ops=inspection.ops[:1])
    source = html(dataclasses.replace(report, inspections={"model.tflite": clean}, float_ops={}))
    assert "it computes in integers from end to end" in source


def test_errors_are_drawn_as_errors(rows):
    worse = [dataclasses.replace(r.measurement, quality_name="mae", quality=n + 1.0) for n, r in enumerate(rows)]
    source = html(Report("t", tuple(Row(f"s{n}", m) for n, m in enumerate(worse))))
    assert "mae, less is better" in source
    assert re.search(r'class="figure bad">3<', source)


def test_points_lie_where_their_values_are():
    points = [Point("big", 1000, 0.9), Point("half", 500, 0.9), Point("small", 250, 0.5, accent=True)]
    texts = (str, str)
    source = scatter(points, titles=("x", "y"), texts=texts, size=(600, 300), name="n")
    found = [tuple(map(float, p)) for p in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', source)]
    (x1, y1), (x2, y2), (x3, y3) = found
    assert x1 - x2 == pytest.approx(x2 - x3, abs=0.2) and x3 < x2 < x1
    assert y1 == y2 < y3 and 0 < y1 and y3 < 300
    assert source.count("<text") >= 3 and "accent" in source


def test_labels_keep_apart_and_inside():
    points = [Point(f"a stage with a long name {n}", 1000 + n, 0.9) for n in range(4)] + [Point("x", 10, 0.1)]
    source = scatter(points, titles=("x", "y"), texts=(str, str), size=(350, 300), name="n")
    labels = re.findall(r'<text class="label" text-anchor="(\w+)" x="([\d.]+)" y="([\d.]+)">([^<]*)<', source)
    heights = sorted(float(y) for _, _, y, text in labels if text != "x")
    assert all(b - a >= 14 for a, b in zip(heights, heights[1:], strict=False))
    for anchor, x, _, text in labels:
        start = float(x) - (6.7 * len(text) if anchor == "end" else 0)
        assert start >= 0 and start + 6.7 * len(text) <= 350


def test_a_missing_value_leaves_a_gap():
    source = curves([("loss", [3.0, None, 1.0, 2.0, float("nan")])], text=str, size=(300, 200), name="n")
    pieces = [points.split() for points in re.findall(r'points="([^"]*)"', source)]
    assert [len(piece) for piece in pieces] == [1, 2]
    assert source.count('class="spot') == 1


def test_equal_values_and_single_epochs_can_be_drawn():
    Page(curves([("loss", [0.5])], text=str, size=(300, 200), name="n"))
    same = [Point("a", 10, 0.5), Point("b", 10, 0.5)]
    Page(scatter(same, titles=("x", "y"), texts=(str, str), size=(300, 200), name="n"))


def test_elements_escape_text_and_attributes():
    made = element("p", "<b>", element("i", "&"), title='"<>', class_="x", data_name=1, hidden=None)
    assert made == '<p title="&quot;&lt;&gt;" class="x" data-name="1">&lt;b&gt;<i>&amp;</i></p>'


def test_writing_is_whole_or_not_at_all(report, tmp_path):
    write_html(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html(report)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_environment_names_versions_and_seed():
    found = environment(seed=7)
    assert found["seed"] == 7 and found["tensorflow"].startswith("2.") and found["processor"]
    assert {"tfbig", "python", "keras", "numpy", "cores", "date"} <= set(found)


def test_it_takes_a_measurement_with_nothing_in_it():
    nothing = {"file": None, "quality": None, "quality_name": "", "bytes": None, "gzip_bytes": None}
    empty = measurement(**nothing, latency_ms=None, latency_p95_ms=None)
    Page(html(Report("t", (Row("a", empty), Row("b", empty)))))


def test_where_the_milliseconds_are(report, page):
    said = [part for part in page.text if part.strip()]
    assert "ms alone" in said and "0.0123" in said
    untimed = dataclasses.replace(report, inspections={"m": _without_times(report.inspections["model.tflite"])})
    assert "ms alone" not in html(untimed)


def _without_times(inspection):
    return dataclasses.replace(
        inspection, ops=tuple(dataclasses.replace(op, milliseconds=None) for op in inspection.ops)
    )


def test_what_rounding_each_layer_costs(report, page):
    said = [part for part in page.text if part.strip()]
    start = said.index("What rounding each layer costs")
    assert f"stem {HOSTILE}" in said[start:] and "31.2" in said and "exact" in said
    assert "What rounding each layer costs" not in html(dataclasses.replace(report, sensitivity={}))

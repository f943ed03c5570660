"""The verdict, the table, and the Markdown: figures computed from the rows."""

import dataclasses
import re

import pytest
import yaml
from report_samples import HOSTILE, measurement

from tfbig.report.figures import difference_text, latency_text, ratio_text
from tfbig.report.markdown import markdown
from tfbig.report.report import Report, Row
from tfbig.report.table import print_report, table, text


def verdict_of(*measurements):
    return Report("t", tuple(Row(f"stage {n}", m) for n, m in enumerate(measurements))).verdict


def test_the_verdict_tells_size_speed_and_quality(report):
    assert report.verdict == (
        "Beside float, prune 80 % + int8 is 8.8 times smaller gzipped (290,149 to 32,845 bytes), "
        "runs at 2.3 times the speed (0.412 to 0.178 ms) "
        "and loses 0.80 points of accuracy (92.01 % to 91.21 %, 10,000 samples)."
    )


def test_the_verdict_is_honest_about_losses_and_says_nothing_of_the_unmeasured():
    base = measurement()
    worse = verdict_of(base, measurement(gzip_bytes=580_298, latency_ms=0.824, quality=0.93))
    assert "is 2.0 times larger gzipped" in worse and "1/2.0 of the speed" in worse
    assert "gains 0.99 points of accuracy" in worse
    assert "keeps its accuracy" in verdict_of(base, measurement())
    assert "takes the same time" in verdict_of(base, measurement(latency_ms=0.415))
    silent = verdict_of(base, measurement(latency_ms=None, quality=None))
    assert "ms" not in silent and "accuracy" not in silent and "smaller" in silent
    other = verdict_of(base, measurement(quality_name="mae", quality=1.0, gzip_bytes=None, latency_ms=None))
    assert other == "Beside stage 0, stage 1 has no figure in common."


def test_the_verdict_of_an_error_goes_the_other_way():
    base = measurement(quality_name="mae", quality=2.0)
    assert "raises its mae by 0.5 (2 to 2.5" in verdict_of(base, dataclasses.replace(base, quality=2.5))
    assert "lowers its mae by 0.25" in verdict_of(base, dataclasses.replace(base, quality=1.75))


def test_the_verdict_of_one_row_and_of_none():
    alone = "Stage 0: accuracy 92.01 % on 10,000 samples, 316,748 bytes (290,149 gzipped), 0.412 ms."
    assert verdict_of(measurement()) == alone
    assert Report("t", ()).verdict == "Nothing was measured."


def test_the_table_holds_every_figure(report):
    lines = text(report).splitlines()
    assert lines[0].startswith("ResNet-8")
    heading = next(line for line in lines if "stage" in line)
    assert re.findall(r"accuracy|change|gzip bytes|zeros|median / p95", heading) == [
        *("accuracy", "change", "gzip bytes", "zeros", "median / p95")
    ]
    last = next(line for line in lines if line.strip().startswith("prune 80 %"))
    cells = re.split(r"\s{2,}", last.strip())
    figures = ["91.21 %", "-0.80", "96,488", "3.3x", "32,845", "8.8x", "80.1 %", "0.178 / 0.200", "2.3x", "88.0"]
    assert cells == ["prune 80 % + int8", "model.tflite", *figures]
    first = re.split(r"\s{2,}", next(line for line in lines if line.strip().startswith("float")).strip())
    assert first[3] == first[5] == first[7] == first[10] == "-"
    assert report.verdict in lines and any(line.startswith("Note: Careful") for line in lines)


def test_plain_text_has_no_colours_and_no_broken_lines(report, capsys):
    print_report(report)
    printed = capsys.readouterr().out
    assert printed == str(report) + "\n" == text(report) + "\n"
    assert "\x1b" not in printed
    assert all(line == line.rstrip() for line in printed.splitlines())
    assert table(report).row_count == 3


def test_markdown_is_one_table_with_as_many_cells_in_every_row(report):
    lines = [line for line in markdown(report).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {13}


def test_markdown_escapes_and_carries_the_recipe(report):
    result = markdown(report)
    assert "<script>" not in result.split("```")[0]
    assert "**Beside float" in result and "> Careful" in result
    assert "`model.tflite`" in result and "because of" in result and "no kernel: 1 (NEG)" in result
    recipe = re.search(r"```yaml\n(.*?)\n```", result, re.DOTALL).group(1)
    assert yaml.safe_load(recipe) == report.recipe and report.recipe["note"] == HOSTILE


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (latency_text, (0.01234,), "0.0123"),
        (latency_text, (0.2,), "0.200"),
        (latency_text, (1234.5,), "1,234"),
        (latency_text, (None,), "-"),
        (ratio_text, (13.12,), "13.1x"),
        (ratio_text, (250.4,), "250x"),
        (difference_text, (-0.00001, "accuracy"), "+0.00"),
        (difference_text, (-0.0312, "rmse"), "-0.0312"),
    ],
)
def test_figures_as_text(function, arguments, expected):
    assert function(*arguments) == expected

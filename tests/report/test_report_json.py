"""The report's JSON: round trip, schema, and files that are none."""

import dataclasses
import json
import math

import numpy as np
import pytest

from tfbig.errors import InvalidFile
from tfbig.measurement.inspection import Inspection, Op
from tfbig.measurement.measure import Measurement
from tfbig.report.report import SCHEMA_VERSION, Report, Row
from tfbig.report.schema import SCHEMA


def test_round_trip_through_a_file(report, tmp_path):
    report.save(tmp_path / "report.json")
    again = Report.load(tmp_path / "report.json")
    assert again.to_dict() == report.to_dict()
    assert again.rows == report.rows and again.inspections == report.inspections
    assert again.verdict == report.verdict


def test_the_file_is_strict_json(report, tmp_path):
    numpy = dataclasses.replace(report, environment={"cores": np.int64(4), "share": np.float32(0.5)})
    numpy.save(tmp_path / "report.json")

    def refuse(constant):
        raise AssertionError(constant)

    values = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert values["schema_version"] == SCHEMA_VERSION == 1
    assert values["histories"]["float"]["loss"][2] is None
    assert values["environment"] == {"cores": 4, "share": 0.5}
    assert math.isnan(report.histories["float"]["loss"][2])


LATER = {  # what reports from before do not have
    Report: ("sensitivity",),
    Measurement: ("macs", "arena_bytes", "weights"),
    Op: ("milliseconds",),
}


def test_reports_from_before_later_fields_came_are_read(report):
    values = report.to_dict()
    del values["sensitivity"]
    for op in values["inspections"]["model.tflite"]["ops"]:
        del op["milliseconds"]
    again = Report.from_dict(values)
    assert again.sensitivity == {} and again.inspections["model.tflite"].ops[0].milliseconds is None


def test_the_schema_names_every_field():
    described = {
        Report: (SCHEMA, {"schema_version", "tfbig", "verdict"}),
        Row: (SCHEMA["properties"]["rows"]["items"], set()),
        Measurement: (SCHEMA["properties"]["rows"]["items"]["properties"]["measurement"], set()),
        Inspection: (SCHEMA["properties"]["inspections"]["additionalProperties"], set()),
        Op: (SCHEMA["properties"]["inspections"]["additionalProperties"]["properties"]["ops"]["items"], set()),
    }
    for kind, (schema, more) in described.items():
        assert set(schema["properties"]) == {f.name for f in dataclasses.fields(kind)} | more, kind
        assert schema["required"] == [name for name in schema["properties"] if name not in LATER.get(kind, ())]


KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}


def check(schema, value, where="report"):
    if "enum" in schema or "const" in schema:
        assert value in schema.get("enum", [schema.get("const")]), where
        return
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(isinstance(value, KINDS.get(kind, bool)) for kind in kinds), (where, value)
    for name in schema.get("required", ()) if value is not None else ():
        assert name in value, (where, name)
    for name, item in value.items() if isinstance(value, dict) else ():
        inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        if inner:
            check(inner, item, f"{where}.{name}")
    for item in value if isinstance(value, list) else ():
        check(schema["items"], item, f"{where}[]")


def test_a_report_fits_the_schema(report):
    check(SCHEMA, report.to_dict())
    check(SCHEMA, Report("empty", ()).to_dict())
    with pytest.raises(AssertionError):
        check(SCHEMA, {**report.to_dict(), "title": 3})


def test_files_that_are_no_report(report, tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(InvalidFile, match="No report `.*report.json`. Expected the report.json that"):
        Report.load(path)
    path.write_text('{"schema_version": 1, ')
    with pytest.raises(InvalidFile, match="is not JSON .*Write it again with Report.save"):
        Report.load(path)
    for version in (None, 99):
        path.write_text(json.dumps({**report.to_dict(), "schema_version": version}))
        with pytest.raises(InvalidFile, match=f"schema version {version!r}, expected 1"):
            Report.load(path)
    path.write_text("[1]")
    with pytest.raises(InvalidFile, match="schema version None, expected 1"):
        Report.load(path)
    incomplete = report.to_dict()
    del incomplete["rows"]
    path.write_text(json.dumps(incomplete))
    with pytest.raises(InvalidFile, match="report is not complete .*rows"):
        Report.load(path)

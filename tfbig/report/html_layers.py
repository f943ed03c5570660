"""The part of the report page that looks inside the files: bytes, milliseconds, bits and zeros, layer by layer."""

from __future__ import annotations

from tfbig.measurement.inspection import Inspection, Op
from tfbig.report.figures import latency_text, percent_text
from tfbig.report.markup import Markup, element
from tfbig.report.report import Report

_HEADINGS = ("operation", "arithmetic", "bits", "zeros", "values", "bytes", "ms alone")
_WORTH_A_ROW = 0.01  # of all milliseconds, for an operation that holds no constants


def layers(report: Report) -> Markup | None:
    """One panel per inspected file; the last file, which is what was delivered, is open."""
    files = list(report.inspections.items())
    if not files:
        return None
    parts = [_file(name, inspection, is_open=name == files[-1][0]) for name, inspection in reversed(files)]
    return element("div", *parts)


def sensitivity(report: Report) -> Markup | None:
    """For each file that was debugged, what rounding each layer alone does to the outputs."""
    parts = []
    for file, ranked in report.sensitivity.items():
        largest = max((layer["share"] for layer in ranked), default=0.0)
        rows = [
            element(
                "tr",
                element("td", layer["layer"], class_="text op"),
                element("td", "exact" if layer["snr_db"] is None else f"{layer['snr_db']:.1f}"),
                element("td", percent_text(layer["share"]), _bar(layer["share"] / max(largest, 1e-12), "")),
            )
            for layer in ranked
        ]
        headings = (element("th", "layer", class_="text"), element("th", "SNR dB"), element("th", "share of noise"))
        table = element("table", element("thead", element("tr", *headings)), element("tbody", *rows))
        parts.append(element("div", element("h3", file), element("div", table, class_="tall scroll"), class_="panel"))
    return element("div", *parts) if parts else None


def _file(name: str, inspection: Inspection, *, is_open: bool) -> Markup:
    total = sum(op.milliseconds or 0.0 for op in inspection.ops)
    shown = [op for op in inspection.ops if op.weight_bytes or (op.milliseconds or 0.0) > _WORTH_A_ROW * total]
    summary = f"{name}: {inspection.scheme}, {inspection.bytes:,} bytes, {len(inspection.ops)} operations"
    none = element("p", "It holds no constants.")
    table = element("div", _table(shown), class_="tall scroll") if shown else none
    inside = element("div", _strip(inspection), table, class_="panel")
    return element("details", element("summary", summary), inside, open="open" if is_open else None)


def _strip(inspection: Inspection) -> Markup:
    """The file's bytes by type, as a strip with its legend; the rest is the graph itself."""
    sizes = dict(inspection.bytes_by_dtype)
    rest = inspection.bytes - sum(sizes.values())
    sizes |= {"graph": rest} if rest > 0 else {}
    blocks, legend = [], []
    for number, (dtype, size) in enumerate(sizes.items()):
        colour = f"b{number % 6 + 1}"
        blocks.append(element("i", class_=colour, style=f"flex:{max(size, 1)}"))
        legend.append(element("span", element("i", class_=colour), f"{dtype} {size:,} bytes"))
    return element("div", element("div", *blocks, class_="strip"), element("p", *legend, class_="legend"))


def _table(ops: list[Op]) -> Markup:
    largest, slowest = max(op.weight_bytes for op in ops), max(op.milliseconds or 0.0 for op in ops)
    headings = _HEADINGS if slowest else _HEADINGS[:-1]
    head = [element("th", text, class_="text" if text in _HEADINGS[:2] else None) for text in headings]
    body = [element("tr", *_cells(op, largest), *_time(op, slowest)) for op in ops]
    return element("table", element("thead", element("tr", *head)), element("tbody", *body))


def _cells(op: Op, largest: int) -> list[Markup]:
    layer = op.output.rsplit(";", 1)[-1]
    kind = "float" if op.reason else op.arithmetic
    has_weights = op.zero_fraction is not None
    zeros: list[object] = ["-"]
    if op.zero_fraction is not None:
        zeros = [percent_text(op.zero_fraction), _bar(op.zero_fraction, "zeros")]
    return [
        element("td", op.type, element("small", layer), class_="text op", title=op.output),
        element("td", element("span", kind, class_=f"chip {kind}", title=op.reason), class_="text"),
        element("td", op.weight_bits if has_weights else "-"),
        element("td", *zeros),
        element("td", f"{op.distinct:,}" if has_weights else "-"),
        element("td", f"{op.weight_bytes:,}", _bar(op.weight_bytes / max(1, largest), "")),
    ]


def _time(op: Op, slowest: float) -> list[Markup]:
    if not slowest:
        return []
    if op.milliseconds is None:
        return [element("td", "-")]
    return [element("td", latency_text(op.milliseconds), _bar(op.milliseconds / slowest, ""))]


def _bar(share: float, style: str) -> Markup:
    width = f"width:{100 * share:.1f}%"
    return element("span", element("i", style=width), class_=f"bar {style}".strip())

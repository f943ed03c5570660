"""The style of the report page: light and dark, wide and narrow, and nothing fetched."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #17202b; --soft: #5a6675; --line: #dfe4ea; --fill: #e9edf2;
  --accent: #0b6e6e; --accent-soft: #d8eeec; --good: #17743c; --bad: #b3261e; --warn: #8a5300;
  --s1: #0b6e6e; --s2: #c2570c; --s3: #5b4bc4; --s4: #a1316b; --s5: #4a7a12; --s6: #31679e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #10151b; --card: #181f27; --ink: #e6ebf0; --soft: #9aa7b5; --line: #2b3540; --fill: #242e38;
    --accent: #4fc7bd; --accent-soft: #143836; --good: #6fd08c; --bad: #ff8a80; --warn: #f0b55a;
    --s1: #4fc7bd; --s2: #f29a55; --s3: #a79bff; --s4: #ee86b7; --s5: #a2d066; --s6: #7db4ea;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1rem; font-weight: 600; color: var(--soft); margin: 0 0 12px; overflow-wrap: anywhere; }
h1 b { color: var(--accent); font-weight: 700; margin-right: .6em; }
.verdict { font-size: clamp(1.25rem, 1rem + 1.5vw, 1.85rem); line-height: 1.35; font-weight: 600; margin: 0;
  max-width: 42em; text-wrap: pretty; }
h2 { font-size: 1.15rem; margin: 48px 0 4px; }
h3 { font-size: .95rem; margin: 0 0 8px; overflow-wrap: anywhere; }
p.lead { color: var(--soft); margin: 0 0 14px; max-width: 50em; }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr));
  margin-top: 28px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.card .name { color: var(--soft); font-size: .85rem; }
.card .figure { font-size: 2.1rem; line-height: 1.2; font-weight: 700; letter-spacing: -.02em; }
.card .figure, td, .legend { font-variant-numeric: tabular-nums; }
.card .detail { color: var(--soft); font-size: .85rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.scroll { overflow-x: auto; }
.tall { max-height: 34rem; overflow: auto; }
.panel.flush { padding: 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem; }
th, td { padding: 9px 12px; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; border-bottom: 1px solid var(--line);
  color: var(--soft); font-weight: 600; font-size: .8rem; position: sticky; top: 0;
  background: var(--card); z-index: 1; }
th.text, td.text { text-align: left; }
tbody tr:first-child td { border-top: 0; }
th.name, td.name { position: sticky; left: 0; z-index: 1; background: var(--card); }
th.name { z-index: 2; }
td.name { font-weight: 600; white-space: normal; min-width: 10em; }
td.name small { display: block; font-weight: 400; color: var(--soft); overflow-wrap: anywhere; }
tr.delivered td { background: var(--accent-soft); }
tr.delivered td:first-child { box-shadow: inset 4px 0 var(--accent); }
td.op { max-width: 21em; overflow: hidden; text-overflow: ellipsis; }
td.op small { color: var(--soft); display: block; overflow: hidden; text-overflow: ellipsis; }
.bar { display: inline-block; vertical-align: middle; width: 72px; height: 9px; border-radius: 5px;
  background: var(--fill); margin-left: 10px; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: 5px; }
.bar.zeros i { background: var(--s6); }
.chip { display: inline-block; border-radius: 6px; padding: 1px 8px; font-size: .8rem;
  background: var(--fill); }
.chip.integer { background: var(--accent-soft); color: var(--accent); }
.chip.float { color: var(--warn); box-shadow: inset 0 0 0 1px var(--warn); background: none; }
.strip { display: flex; height: 14px; border-radius: 7px; overflow: hidden; gap: 2px; margin: 10px 0 8px; }
.strip i { display: block; min-width: 3px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .85rem; color: var(--soft); margin: 0; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; }
.b1 { background: var(--s1); } .b2 { background: var(--s2); } .b3 { background: var(--s3); }
.b4 { background: var(--s4); } .b5 { background: var(--s5); } .b6 { background: var(--s6); }
.curves { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr)); }
svg { display: block; max-width: 100%; height: auto; font: 12px/1 system-ui, "DejaVu Sans", sans-serif; }
svg .grid { stroke: var(--line); } svg .leader { stroke: var(--soft); }
svg .tick, svg .axis { fill: var(--soft); } svg .label { fill: var(--ink); }
svg .label.accent { font-weight: 700; fill: var(--accent); }
svg .point { fill: var(--card); stroke: var(--s6); stroke-width: 2.5; }
svg .point.accent { fill: var(--accent); stroke: var(--accent); }
svg .curve { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
svg .series1 { stroke: var(--s1); } svg .series2 { stroke: var(--s2); } svg .series3 { stroke: var(--s3); }
svg .series4 { stroke: var(--s4); } svg .series5 { stroke: var(--s5); } svg .series6 { stroke: var(--s6); }
svg .spot { fill: var(--card); stroke-width: 2.2; }
.narrow { display: none; }
details { margin-top: 12px; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
details[open] > summary { margin-bottom: 12px; }
pre { margin: 0; overflow-x: auto; font: .85rem/1.5 ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; }
code { font: .9em ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.2em; } li { margin: 4px 0; }
.two { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.note { border-left: 4px solid var(--warn); padding: 4px 14px; margin: 10px 0; }
footer { color: var(--soft); font-size: .85rem; margin-top: 48px; }
@media (max-width: 640px) {
  main { padding: 24px 14px 48px; }
  .cards { grid-template-columns: 1fr 1fr; gap: 10px; }
  .card { padding: 12px 13px; } .card .figure { font-size: 1.6rem; }
  .wide { display: none; } .narrow { display: block; } .narrow svg { width: 100%; }
  .panel { padding: 12px; } .bar { width: 56px; } td.op { max-width: 11em; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
}
@media print { body { background: none; } .tall { max-height: none; } details { break-inside: avoid; } }
"""

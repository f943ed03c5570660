"""`recommend.py` beats its baselines, its tables made small."""

from __future__ import annotations

import re

from running import run_quick


def test_recommend(tmp_path):
    told = run_quick("recommend", tmp_path)
    found = re.findall(r"^(.+): HitRate@10 ([\d.]+)  NDCG@10 ([\d.]+)(?:  ([\d,]+) bytes.*)?$", told, re.MULTILINE)
    ranked = {name: (float(hit), float(ndcg)) for name, hit, ndcg, _ in found}
    for name in ("float", "1 low rank 0.5", "quantize int8", "int4 tables"):
        assert ranked[f"two_tower, {name}"] > ranked["popularity"]
        assert ranked[f"two_tower, {name}"][1] > ranked["popularity"][1]
    sizes = {name: int(size.replace(",", "")) for name, *_, size in found if size}
    assert sizes["two_tower, int4 tables"] < 0.75 * sizes["two_tower, 1 low rank 0.5"]
    rmse = {name: float(value) for name, value in re.findall(r"^(.+): RMSE ([\d.]+)", told, re.MULTILINE)}
    assert max(rmse["stars, float"], rmse["stars, quantize int8"]) < rmse["mean of the film"]
    assert (tmp_path / "saved_models" / "recommend" / "stars" / "report.html").is_file()

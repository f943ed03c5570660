"""One file per way to choose the range of an activation: `range_of(counts, edges, levels) -> (low, high)`.

`counts` is a histogram of the values on calibration data and `edges` its limits, one more than there are counts; the
range holds 0 and lies within the limits.
"""

"""Rate-accuracy curves: results → one CSV, a figure, Bjøntegaard deltas, and tables of time and cost."""

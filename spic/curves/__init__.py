"""Rate-accuracy curves: records → one CSV, a figure, Bjøntegaard deltas, and tables of time and cost."""

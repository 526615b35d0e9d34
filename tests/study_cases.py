"""A study of one tiny benchmark."""

ROW = "{stride: 2, channels: 4, step: 0.5, steps: 2, refine: 2, batch_size: 8, lr: 0.003, lambdas: [1, 50]"
TINY = f"""
tiny:
  classification:
    seeds: [0]
    rows:
      S1: {ROW}, estimators: {{table: 1, l1: 3}}}}
      US1: {ROW}, estimators: {{table: 1}}}}
"""

"""Makes bundles: the halves of operating points as ONNX, checked on pictures before they are written (`spic export`).

    models  torch modules to ONNX models, and whole-number ones       check   what the models give, beside torch
"""

"""Converted models as programs of PyTorch and of ONNX."""

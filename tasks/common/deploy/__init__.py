"""Deployment: ONNX export and quantisation, networks in ONNX Runtime, cost and latency of inference."""

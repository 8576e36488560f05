"""From a trained network to a device: ONNX files, ONNX Runtime as a network, cost and latency of inference."""

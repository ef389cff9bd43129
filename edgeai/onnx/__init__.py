"""The small models that run in ONNX Runtime: embedder and reader."""

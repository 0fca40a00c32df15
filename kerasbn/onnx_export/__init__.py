"""From a Keras network to a proven ONNX file, and answers from it."""

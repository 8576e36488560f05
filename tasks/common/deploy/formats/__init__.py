"""Files for other runtimes than ONNX Runtime, a module each; `table.py` lists them."""

"""What runs inside a trainer process; the one place that imports TensorFlow and Keras."""

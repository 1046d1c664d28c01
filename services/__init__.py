"""The domain: specs, jobs, leases, datasets and their SQL store; no HTTP, broker, TensorFlow or MLflow."""

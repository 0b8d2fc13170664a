"""The costs of Tasker on PostgreSQL, and its first bottleneck as it grows: measurements, a model and simulations."""

"""Tasks that combine features, for tests/chaos/test_features_together.py."""

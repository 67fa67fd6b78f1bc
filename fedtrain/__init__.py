"""Compact federated trainers on the shards that fedprep makes."""

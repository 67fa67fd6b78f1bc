"""Federated, multimodal recommender data: raw files in, a verified Dataset out."""

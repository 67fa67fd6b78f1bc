"""Training through Flower: the same algorithms as its ClientApp and ServerApp, simulated or for real."""

from fedtrain.flower.simulation import train_with_flower

__all__ = ["train_with_flower"]

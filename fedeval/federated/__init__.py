"""Federated evaluation: only sums and counts leave a client; masked and with noise where asked for."""

from __future__ import annotations

from fedeval.federated.noise import NoisyTotal, gaussian_delta, gaussian_sigma, noisy_total
from fedeval.federated.secure import SecureTotal, secure_total
from fedeval.federated.statements import Statements, client_statements, client_sums, exposure
from fedeval.federated.sums import ClientSums, merge

__all__ = [
    "ClientSums",
    "NoisyTotal",
    "SecureTotal",
    "Statements",
    "client_statements",
    "client_sums",
    "exposure",
    "gaussian_delta",
    "gaussian_sigma",
    "merge",
    "noisy_total",
    "secure_total",
]

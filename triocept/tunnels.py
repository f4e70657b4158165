"""Tunnels through which agents on other machines reach an endpoint."""

from ._tunnel.base import FixedURL, Tunnel
from ._tunnel.command import CommandTunnel
from ._tunnel.health import TunnelHealth
from ._tunnel.prime import PrimeTunnel
from ._tunnel.ssh import SSHTunnel

__all__ = ["CommandTunnel", "FixedURL", "PrimeTunnel", "SSHTunnel", "Tunnel", "TunnelHealth"]

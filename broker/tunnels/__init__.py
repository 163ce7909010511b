"""Tunnels: WebSockets that the broker holds for the backends of apps.

client ──WebSocket──▶ broker ──HTTP callback──▶ backend
client ◀──WebSocket── broker ◀───HTTP push───── backend
"""

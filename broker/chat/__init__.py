"""Chat: rooms and point-to-point messages between clients, at the namespace `/chat`."""

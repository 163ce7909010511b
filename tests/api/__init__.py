"""The HTTP and Socket.IO interfaces of a running broker."""

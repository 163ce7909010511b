"""HTTP and Socket.IO endpoints: requests, responses, limits, OpenAPI."""

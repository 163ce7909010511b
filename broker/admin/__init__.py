"""The page for operators, its sign-in by scan, the settings and the stream of events."""

"""Phone sessions."""

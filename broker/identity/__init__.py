"""Who holds the phone: providers and directories."""

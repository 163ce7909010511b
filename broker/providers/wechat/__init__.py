"""The WeChat provider: WeChat mini programs draw codes and verify identities."""

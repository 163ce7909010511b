"""What tests share: servers, clients, fakes, builders."""

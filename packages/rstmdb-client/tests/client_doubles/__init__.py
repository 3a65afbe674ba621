"""What the client is tested against without a server: a model, a breaking proxy, a scripted peer."""

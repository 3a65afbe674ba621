"""What the client is tested against without a server: a model database, a proxy that breaks, a scripted peer."""

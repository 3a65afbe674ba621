"""The operations, by subject. Each module's ``bind(services)`` gives its handlers by operation name."""

"""Where this package meets Lightning; nothing outside it, `data/` and `cli/` imports Lightning."""

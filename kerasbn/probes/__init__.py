"""What happens inside a model while it trains: recorded, drawn and described."""

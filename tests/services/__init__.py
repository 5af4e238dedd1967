"""The real services that tests, demo and benches run on: Kafka, Redis, and a faulty network."""

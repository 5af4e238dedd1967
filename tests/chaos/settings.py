"""A worker's settings for tests: time-outs as short as their order allows, small transactions."""

from pathlib import Path

from tests.services.topics import Topics
from tests.services.worker import settings_for

TRANSACTION_TIMEOUT_S = 4.0
SESSION_TIMEOUT_S = 3.0
BATCH_EVENTS = 8
# For faults that strike a worker at a certain step: until then a busy machine must not abort one.
UNHURRIED = {
    "KAFKA__REQUEST_TIMEOUT_MS": "5000",
    "KAFKA__DELIVERY_TIMEOUT_MS": "8000",
    "KAFKA__TRANSACTION_TIMEOUT_MS": "10000",
    "KAFKA__SESSION_TIMEOUT_MS": "6000",
    "KAFKA__MAX_POLL_INTERVAL_MS": "30000",
}
# Where no time-out is waited for at all: none passes by itself, on the slowest machine.
UNTIMED = {
    "KAFKA__REQUEST_TIMEOUT_MS": "30000",
    "KAFKA__DELIVERY_TIMEOUT_MS": "40000",
    "KAFKA__TRANSACTION_TIMEOUT_MS": "60000",
    "KAFKA__SESSION_TIMEOUT_MS": "20000",
    "KAFKA__MAX_POLL_INTERVAL_MS": "120000",
}
# A transaction that the broker does not give up while its worker stands still.
PATIENT = {
    "KAFKA__TRANSACTION_TIMEOUT_MS": "60000",
    "KAFKA__WATCHDOG_MARGIN_MS": "60000",
    "KAFKA__MAX_POLL_INTERVAL_MS": "90000",
}


def quick_settings(
    bootstrap: str, topics: Topics, model_bundle: Path, **more: str
) -> dict[str, str]:
    """Return the environment of a worker; `more` are further variables without the prefix."""
    quick = {
        "KAFKA__REQUEST_TIMEOUT_MS": "2000",
        "KAFKA__DELIVERY_TIMEOUT_MS": "3000",
        "KAFKA__TRANSACTION_TIMEOUT_MS": str(int(TRANSACTION_TIMEOUT_S * 1000)),
        "KAFKA__SESSION_TIMEOUT_MS": str(int(SESSION_TIMEOUT_S * 1000)),
        "KAFKA__MAX_POLL_INTERVAL_MS": "20000",
        "BATCH__MAX_EVENTS": str(BATCH_EVENTS),
        "BATCH__LANES": "1",
        **more,
    }
    settings = settings_for(bootstrap, topics, model_bundle)
    return settings | {f"RERANKER_{name}": value for name, value in quick.items()}

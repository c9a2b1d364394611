"""Why a run ended as it did, or does not start: `muster why`."""

.PHONY: chaos

chaos: install  ## 20 kills over 10,000 events, scaling, broker restarts; CHAOS="--seed 7" for more
	$(BIN)/python -m tests.chaos $(CHAOS)
